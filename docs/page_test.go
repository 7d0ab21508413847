package docs

import (
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// page is a page of this directory whose code blocks have names, in the info string behind the
// language: ```go pgx.go. Markdown's readers do not see them.
type page struct {
	t      *testing.T
	blocks map[string]*block
}

type block struct {
	language, text string
	used           bool
}

func readPage(t *testing.T, path string) *page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, blocks: map[string]*block{}}
	var open *block
	for line := range strings.Lines(string(text)) {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case open != nil && fence:
			open = nil
		case open != nil:
			open.text += line
		case fence:
			words := strings.Fields(info)
			if len(words) != 2 || p.blocks[words[1]] != nil {
				t.Fatalf("%s: a block begins with ```%s: want a language and a name that no other block has", path, strings.TrimSpace(info))
			}
			open = &block{language: words[0]}
			p.blocks[words[1]] = open
		}
	}
	return p
}

// take returns the text of a block, which counts as run from then on.
func (p *page) take(name string) string {
	p.t.Helper()
	b := p.blocks[name]
	if b == nil {
		p.t.Fatalf("the page has no block %s", name)
	}
	b.used = true
	return b.text
}

// checkAllTaken reports the blocks that nothing has run.
func (p *page) checkAllTaken() {
	p.t.Helper()
	for name, b := range p.blocks {
		if !b.used {
			p.t.Errorf("no test runs the block %s of the page", name)
		}
	}
}

// imports are the packages that the page's Go blocks use without saying so.
var imports = map[string]string{
	"bun":        "github.com/uptrace/bun",
	"context":    "context",
	"events":     "example.com/orders/events",
	"fmt":        "fmt",
	"gorm":       "gorm.io/gorm",
	"os":         "os",
	"outbox":     "github.com/postrider/postrider/outbox",
	"outboxtest": "github.com/postrider/postrider/outbox/outboxtest",
	"pgx":        "github.com/jackc/pgx/v5",
	"pgxpool":    "github.com/jackc/pgx/v5/pgxpool",
	"sql":        "database/sql",
	"testing":    "testing",
}

// goFile makes a file of package orders of a block, which must be as gofmt would have it.
func (p *page) goFile(name string) string {
	p.t.Helper()
	text := p.take(name)
	if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
		p.t.Errorf("the block %s is not what gofmt makes of it (%v):\n%s", name, err, formatted)
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, "package orders\n"+text, parser.ParseComments)
	if err != nil {
		p.t.Fatalf("the block %s: %v", name, err)
	}
	var paths []string
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := selector.X.(*ast.Ident); ok && slices.Contains(file.Unresolved, pkg) && imports[pkg.Name] != "" {
				paths = append(paths, `import "`+imports[pkg.Name]+`"`)
			}
		}
		return true
	})
	if strings.Contains(text, "//go:embed ") {
		paths = append(paths, `import _ "embed"`)
	}
	slices.Sort(paths)
	return "package orders\n\n" + strings.Join(slices.Compact(paths), "\n") + "\n\n" + text
}
