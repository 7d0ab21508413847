package transfer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	fileFormat  = "postrider-registry-export"
	fileVersion = 1
)

// line is one line of a file: exactly one of its members is set, the first of them in the
// first line and End in the last.
type line struct {
	Header *header `json:"header,omitempty"`
	Schema *Schema `json:"schema,omitempty"`
	Config *Config `json:"config,omitempty"`
	Mode   *Mode   `json:"mode,omitempty"`
	End    *counts `json:"end,omitempty"`
}

type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// counts tell a whole file from one that was cut off.
type counts struct {
	Schemas int `json:"schemas"`
	Configs int `json:"configs"`
	Modes   int `json:"modes"`
}

func (c *Content) counts() counts { return counts{len(c.Schemas), len(c.Configs), len(c.Modes)} }

// Write writes content as JSON lines. The same content always makes the same file.
func (c *Content) Write(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	lines := []line{{Header: &header{fileFormat, fileVersion}}}
	for i := range c.Schemas {
		lines = append(lines, line{Schema: &c.Schemas[i]})
	}
	for i := range c.Configs {
		lines = append(lines, line{Config: &c.Configs[i]})
	}
	for i := range c.Modes {
		lines = append(lines, line{Mode: &c.Modes[i]})
	}
	end := c.counts()
	for _, l := range append(lines, line{End: &end}) {
		if err := encoder.Encode(l); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// ReadFile reads what Write wrote. A file that ends too early is an error.
func ReadFile(r io.Reader) (*Content, error) {
	content := &Content{}
	places := make(map[place]bool)
	buffered := bufio.NewReader(r)
	for number := 1; ; number++ {
		text, err := buffered.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return nil, errors.New("the file ends too early: export it again")
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		l, err := readLine(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if (number == 1) != (l.Header != nil) {
			return nil, fmt.Errorf("line %d: this is no file of postrider registry export, whose first line alone says %q", number, fileFormat)
		}
		switch {
		case l.Header != nil && (l.Header.Format != fileFormat || l.Header.Version != fileVersion):
			return nil, fmt.Errorf("line 1: format %q version %d cannot be read, only %q version %d: use the postrider that wrote it, or a newer one",
				l.Header.Format, l.Header.Version, fileFormat, fileVersion)
		case l.Schema != nil:
			if places[l.Schema.place()] || l.Schema.Subject == "" || l.Schema.Version < 1 || l.Schema.ID < 0 {
				return nil, fmt.Errorf("line %d: subject %q version %d, ID %d is there twice or cannot be", number, l.Schema.Subject, l.Schema.Version, l.Schema.ID)
			}
			places[l.Schema.place()] = true
			content.Schemas = append(content.Schemas, *l.Schema)
		case l.Config != nil:
			content.Configs = append(content.Configs, *l.Config)
		case l.Mode != nil:
			content.Modes = append(content.Modes, *l.Mode)
		case l.End != nil:
			if *l.End != content.counts() {
				return nil, fmt.Errorf("line %d: the file has lost lines: %+v are there of %+v", number, content.counts(), *l.End)
			}
			content.sort()
			return content, nil
		}
	}
}

func readLine(text []byte) (line, error) {
	var l line
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return l, err
	}
	set := 0
	for _, is := range []bool{l.Header != nil, l.Schema != nil, l.Config != nil, l.Mode != nil, l.End != nil} {
		if is {
			set++
		}
	}
	if set != 1 || decoder.More() {
		return l, errors.New("the line is none of header, schema, config, mode, end")
	}
	return l, nil
}
