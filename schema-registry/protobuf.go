package schemaregistry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

type protobufFormat struct{}

// protobufRoot is the path under which a schema is compiled. Nothing imports it.
const protobufRoot = "schema-registry/root.proto"

func (protobufFormat) parse(src *source, _ bool) (parsedSchema, error) {
	texts := map[string]string{protobufRoot: src.Text}
	for _, used := range src.uses {
		texts[used.name] = used.text
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			text, ok := texts[path]
			if !ok {
				return protocompile.SearchResult{}, fmt.Errorf("import %q: there is no reference of this name", path)
			}
			return protobufSource(path, text), nil
		})),
		MaxParallelism: 1,
	}
	files, err := compiler.Compile(context.Background(), protobufRoot)
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	text, err := printProtobuf(files[0], false)
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	sorted, err := printProtobuf(files[0], true)
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	return &protobufParsed{files[0], text, sorted}, nil
}

// protobufSource is a file as text, or as a descriptor in Base64, which some clients send.
func protobufSource(path, text string) protocompile.SearchResult {
	if binary, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		file := &descriptorpb.FileDescriptorProto{}
		if proto.Unmarshal(binary, file) == nil {
			file.Name = proto.String(path)
			return protocompile.SearchResult{Proto: file}
		}
	}
	return protocompile.SearchResult{Source: io.NopCloser(strings.NewReader(text))}
}

func printProtobuf(file protoreflect.FileDescriptor, sorted bool) (string, error) {
	printer := protoprint.Printer{Indent: "  ", OmitComments: protoprint.CommentsAll, SortElements: sorted, Compact: true}
	text, err := printer.PrintProtoToString(file)
	return spaceOut(text), err
}

// spaceOut puts a blank line where Confluent's registry has one: before each type and before
// the imports and the options of a file.
func spaceOut(text string) string {
	var spaced strings.Builder
	last := ""
	for line := range strings.Lines(text) {
		kind, _, _ := strings.Cut(line, " ") // "" where the line is indented
		switch kind {
		case "message", "enum", "service", "extend":
			spaced.WriteString("\n")
		case "import", "option":
			if kind != last {
				spaced.WriteString("\n")
			}
		}
		spaced.WriteString(line)
		last = kind
	}
	return spaced.String()
}

type protobufParsed struct {
	file   protoreflect.FileDescriptor
	text   string
	sorted string
}

func (p *protobufParsed) canonical() string       { return p.text }
func (p *protobufParsed) normalized() string      { return p.sorted }
func (p *protobufParsed) formatted(string) string { return p.text }
func (p *protobufParsed) likeness() likeness      { return sha256.Sum256([]byte(p.text)) }

func (p *protobufParsed) same(other parsedSchema) bool {
	o, ok := other.(*protobufParsed)
	return ok && p.text == o.text
}

func (p *protobufParsed) unreadable(writer parsedSchema) ([]string, error) {
	return compareProtobuf(writer.(*protobufParsed).file, p.file), nil
}
