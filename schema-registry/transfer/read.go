package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

const (
	// pageSize is how many schemas are asked for at a time, the most that usual servers give.
	pageSize = 1000
	// askers is how many requests are under way at a time where each is about one subject.
	askers = 8
)

// Progress is told how much of a step is done; a total of 0 is not known.
type Progress func(step string, done, total int)

func (p Progress) show(step string, done, total int) {
	if p != nil {
		p(step, done, total)
	}
}

// globalScope holds the settings of all contexts, where a registry knows it.
const globalScope = ":.__GLOBAL:"

// Read asks a registry for all it knows. The credentials must let it read everything.
func Read(ctx context.Context, client *schemaregistry.Client, progress Progress) (*Content, error) {
	r := reader{client, progress}
	content, contexts, err := r.schemas(ctx)
	if err != nil {
		return nil, err
	}
	scopes := []string{globalScope}
	for _, name := range contexts {
		scopes = append(scopes, scopeOf(name))
	}
	scopes = append(scopes, content.subjects()...)
	if err := r.settings(ctx, content, scopes); err != nil {
		return nil, err
	}
	content.sort()
	return content, nil
}

type reader struct {
	client   *schemaregistry.Client
	progress Progress
}

// schemas reads all versions of all contexts.
func (r *reader) schemas(ctx context.Context) (*Content, []string, error) {
	contexts := []string{"."}
	var named []string
	err := r.get(ctx, "/contexts", nil, &named)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return nil, nil, fmt.Errorf("list contexts: %w", err)
	}
	for _, name := range named {
		if name = "." + strings.TrimPrefix(strings.Trim(name, ":"), "."); name != "." {
			contexts = append(contexts, name)
		}
	}
	found := make(map[place]Schema)
	live := make(map[place]bool)
	for _, name := range contexts {
		err := r.pages(ctx, name, found, live)
		if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusMethodNotAllowed) {
			err = r.oneByOne(ctx, name, found, live)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	content := &Content{}
	for at, s := range found {
		s.Deleted = !live[at]
		content.Schemas = append(content.Schemas, s)
	}
	return content, contexts, nil
}

// pages reads the versions of a context page by page: all, and then those in use. Not every
// registry says of a version whether it is deleted.
func (r *reader) pages(ctx context.Context, name string, found map[place]Schema, live map[place]bool) error {
	for _, deleted := range []string{"true", "false"} {
		seen := make(map[place]bool)
		for offset := 0; ; {
			query := url.Values{"deleted": {deleted}, "offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(pageSize)}}
			if name != "." {
				query.Set("subjectPrefix", scopeOf(name))
			}
			var page []Schema
			if err := r.get(ctx, "/schemas", query, &page); err != nil {
				return fmt.Errorf("list schemas: %w", err)
			}
			fresh := 0
			for _, s := range page {
				if at := s.place(); !seen[at] {
					seen[at] = true
					fresh++
					found[at] = s
					if deleted == "false" {
						live[at] = true
					}
				}
			}
			r.progress.show("reading schemas", len(found), 0)
			// Neither the size of a page nor its place can be relied on: some registries give
			// less at a time, some everything every time.
			if offset += len(page); fresh == 0 {
				break
			}
		}
	}
	return nil
}

// oneByOne reads the versions of a context where the registry has no list of schemas.
func (r *reader) oneByOne(ctx context.Context, name string, found map[place]Schema, live map[place]bool) error {
	query := url.Values{"deleted": {"true"}}
	if name != "." {
		query.Set("subjectPrefix", scopeOf(name))
	}
	var subjects []string
	if err := r.get(ctx, "/subjects", query, &subjects); err != nil {
		return fmt.Errorf("list subjects: %w", err)
	}
	var places []place
	for i, subject := range subjects {
		for _, deleted := range []string{"true", "false"} {
			var versions []int
			err := r.get(ctx, pathOf("subjects", subject, "versions"), url.Values{"deleted": {deleted}}, &versions)
			if err != nil && !isStatus(err, http.StatusNotFound) { // none is in use
				return fmt.Errorf("list versions of subject %q: %w", subject, err)
			}
			for _, version := range versions {
				if deleted == "true" {
					places = append(places, place{subject, version})
				} else {
					live[place{subject, version}] = true
				}
			}
		}
		r.progress.show("listing versions of subjects", i+1, len(subjects))
	}
	schemas := make([]Schema, len(places))
	err := r.each(ctx, "reading schemas", len(places), func(ctx context.Context, i int) error {
		at := places[i]
		err := r.get(ctx, pathOf("subjects", at.subject, "versions", strconv.Itoa(at.version)), url.Values{"deleted": {"true"}}, &schemas[i])
		if err == nil && schemas[i].place() != at {
			err = errors.New("the registry answers with another version")
		}
		if err != nil {
			return fmt.Errorf("get version %d of subject %q: %w", at.version, at.subject, err)
		}
		return nil
	})
	for _, s := range schemas {
		found[s.place()] = s
	}
	return err
}

// settings reads what is set for scopes.
func (r *reader) settings(ctx context.Context, content *Content, scopes []string) error {
	configs, modes := make([]map[string]json.RawMessage, len(scopes)), make([]struct{ Mode string }, len(scopes))
	err := r.each(ctx, "reading levels and modes", len(scopes), func(ctx context.Context, i int) error {
		// A 404 says that nothing is set, or that the registry knows no such setting.
		if err := r.get(ctx, pathOf("config", scopes[i]), nil, &configs[i]); err != nil && !isStatus(err, http.StatusNotFound) {
			return fmt.Errorf("get the level of %q: %w", scopes[i], err)
		}
		if err := r.get(ctx, pathOf("mode", scopes[i]), nil, &modes[i]); err != nil && !isStatus(err, http.StatusNotFound) {
			return fmt.Errorf("get the mode of %q: %w", scopes[i], err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, scope := range scopes {
		for key, value := range configs[i] {
			if string(value) == "null" {
				delete(configs[i], key)
			}
		}
		if scope == globalScope {
			// The defaults are nothing that was set, and not every registry has such a place.
			if string(configs[i]["compatibilityLevel"]) == `"BACKWARD"` && len(configs[i]) == 1 {
				configs[i] = nil
			}
			if modes[i].Mode == modeReadWrite {
				modes[i].Mode = ""
			}
		}
		if len(configs[i]) > 0 {
			content.Configs = append(content.Configs, Config{scope, configs[i]})
		}
		if modes[i].Mode != "" {
			content.Modes = append(content.Modes, Mode{scope, modes[i].Mode})
		}
	}
	return nil
}

// each asks about many things, a few at a time.
func (r *reader) each(ctx context.Context, step string, total int, ask func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askers)
	var done atomic.Int64
	for i := range total {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := ask(ctx, i)
			done.Add(1)
			return err
		})
		r.progress.show(step, int(done.Load()), total)
	}
	return group.Wait()
}

func (r *reader) get(ctx context.Context, path string, query url.Values, answer any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return r.client.Do(ctx, http.MethodGet, path, nil, answer)
}

// pathOf makes a path of segments; an empty one at the end is left out.
func pathOf(segments ...string) string {
	var path strings.Builder
	for _, s := range segments {
		if s != "" {
			// A subject of dots alone would be taken for a relative path.
			path.WriteString("/" + strings.ReplaceAll(url.PathEscape(s), ".", "%2E"))
		}
	}
	return path.String()
}

func isStatus(err error, status int) bool {
	var answer *schemaregistry.Error
	return errors.As(err, &answer) && answer.StatusCode == status
}
