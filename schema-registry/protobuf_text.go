package schemaregistry

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// protobufItem is a statement of a Protobuf schema, or a block of them.
type protobufItem struct {
	head  string // the whole statement, or what stands before the brace
	block bool
	items []*protobufItem
}

// layOutProtobuf gives a text the layout that Confluent's registry gives it, so that one schema
// has one text in both: groups of elements in a fixed order, a blank line between them. The
// order of messages stays, since messages in Kafka carry the place of theirs. normalize sorts
// what else may be sorted. The text has a statement or a brace on each line.
func layOutProtobuf(text string, normalize bool) string {
	file := &protobufItem{block: true}
	open := []*protobufItem{file}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		within := open[len(open)-1]
		switch head, isBlock := strings.CutSuffix(line, " {"); {
		case line == "":
		case strings.HasSuffix(line, " {}"):
			within.items = append(within.items, &protobufItem{head: strings.TrimSuffix(line, " {}"), block: true})
		case line == "}" && len(open) > 1:
			open = open[:len(open)-1]
		case isBlock:
			block := &protobufItem{head: head, block: true}
			within.items = append(within.items, block)
			open = append(open, block)
		default:
			within.items = append(within.items, &protobufItem{head: line})
		}
	}
	var b strings.Builder
	file.writeItems(&b, "", normalize)
	return b.String()
}

// protobufOrder is the order of elements. Those with the same tens make a group.
var protobufOrder = map[string]int{
	"syntax": 0, "edition": 0, "package": 1, "import": 10, "import public": 11, "reserved": 20, "option": 30,
	"field": 40, "oneof": 50, "group": 60, "extensions": 70, "message": 80, "enum": 81, "extend": 90, "service": 100, "rpc": 110,
}

func (p *protobufItem) kind() string {
	first, rest, _ := strings.Cut(p.head, " ")
	second, _, _ := strings.Cut(rest, " ")
	switch {
	case first == "import" && second == "public":
		return "import public"
	case p.block && strings.Contains(p.head, " = "):
		return "group"
	case second == "=" && !strings.HasPrefix(rest, `= "`): // a value of an enum may have any name
		return "field"
	case p.block || slices.Contains(protobufStatements, first):
		return first
	}
	return "field"
}

// protobufStatements begin the elements without a brace that are no fields.
var protobufStatements = []string{"syntax", "edition", "package", "import", "option", "reserved", "extensions", "rpc"}

// order is the place of an element within parent.
func (p *protobufItem) order(parent *protobufItem) int {
	kind := p.kind()
	order, known := protobufOrder[kind]
	switch {
	case !known:
		return protobufOrder["field"]
	case kind == "extend" && parent.head != "": // before the types in a message, behind them in a file
		return protobufOrder["extensions"] + 5
	}
	return order
}

// number is that of a field or of a value of an enum, or the lowest one in a oneof.
func (p *protobufItem) number() int {
	if p.block && p.kind() == "oneof" {
		lowest := 0
		for _, item := range p.items {
			if n := item.number(); lowest == 0 || n < lowest {
				lowest = n
			}
		}
		return lowest
	}
	_, value, _ := strings.Cut(p.head, " = ")
	digits := strings.TrimRight(strings.Fields(value + " ;")[0], ";")
	n, _ := strconv.ParseInt(digits, 0, 32)
	return int(n)
}

func (p *protobufItem) writeItems(b *strings.Builder, indent string, normalize bool) {
	slices.SortStableFunc(p.items, func(x, y *protobufItem) int {
		order := cmp.Compare(x.order(p), y.order(p))
		if order != 0 || !normalize {
			return order
		}
		switch x.kind() {
		case "field", "group", "oneof":
			return cmp.Or(cmp.Compare(x.number(), y.number()), strings.Compare(x.head, y.head))
		case "import", "import public", "option":
			return strings.Compare(x.head, y.head)
		}
		return 0
	})
	const perGroup = 10
	outer := strings.TrimSuffix(indent, "  ")
	for i, item := range p.items {
		group := item.order(p) / perGroup
		if i > 0 && group != p.items[i-1].order(p)/perGroup && p.kind() != "enum" {
			b.WriteString(outer + "\n")
		}
		item.write(b, indent, normalize)
	}
}

func (p *protobufItem) write(b *strings.Builder, indent string, normalize bool) {
	head := p.head
	if p.kind() == "rpc" {
		head = strings.NewReplacer("( ", "(", " )", ")").Replace(head)
	}
	b.WriteString(indent + head)
	if p.block {
		b.WriteString(" {")
		if len(p.items) > 0 {
			b.WriteString("\n")
			p.writeItems(b, indent+"  ", normalize)
			b.WriteString(indent)
		}
		b.WriteString("}")
		if p.kind() == "rpc" {
			b.WriteString(";")
		}
	}
	b.WriteString("\n")
}
