package schemaregistry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/bufbuild/protocompile"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
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
	text, err := printProtobuf(files[0])
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	return &protobufParsed{files[0], layOutProtobuf(text, false), layOutProtobuf(text, true)}, nil
}

// protobufSource is a file as text, or as a descriptor in Base64, which some clients send.
func protobufSource(path, text string) protocompile.SearchResult {
	if binary, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		file := &descriptorpb.FileDescriptorProto{}
		if proto.Unmarshal(binary, file) == nil {
			file.Name = proto.String(path)
			nameInJSON(file.MessageType)
			return protocompile.SearchResult{Proto: file}
		}
	}
	return protocompile.SearchResult{Source: io.NopCloser(strings.NewReader(text))}
}

// nameInJSON gives fields the names in JSON that protoc gives them. Descriptors of other
// origin may lack them, and protocompile takes none for a name.
func nameInJSON(messages []*descriptorpb.DescriptorProto) {
	for _, message := range messages {
		for _, field := range slices.Concat(message.Field, message.Extension) {
			if field.JsonName == nil {
				field.JsonName = proto.String(jsonName(field.GetName()))
			}
		}
		nameInJSON(message.NestedType)
	}
}

// jsonName drops underscores and capitalizes the letters behind them.
func jsonName(name string) string {
	var b strings.Builder
	upper := false
	for _, r := range name {
		switch {
		case r == '_':
			upper = true
			continue
		case upper:
			r = unicode.ToUpper(r)
		}
		upper = false
		b.WriteRune(r)
	}
	return b.String()
}

func printProtobuf(file protoreflect.FileDescriptor) (string, error) {
	printer := protoprint.Printer{Indent: "  ", OmitComments: protoprint.CommentsAll, Compact: true}
	return printer.PrintProtoToString(file)
}

type protobufParsed struct {
	file   protoreflect.FileDescriptor
	text   string
	sorted string
}

func (p *protobufParsed) canonical() string  { return p.text }
func (p *protobufParsed) normalized() string { return p.sorted }
func (p *protobufParsed) likeness() likeness { return sha256.Sum256([]byte(p.text)) }

// formatted knows "serialized": the descriptor in Base64, which clients in Python ask for.
func (p *protobufParsed) formatted(form string) string {
	if !strings.EqualFold(form, "serialized") {
		return p.text
	}
	binary, err := proto.Marshal(protodesc.ToFileDescriptorProto(p.file))
	if err != nil {
		return p.text
	}
	return base64.StdEncoding.EncodeToString(binary)
}

func (p *protobufParsed) same(other parsedSchema) bool {
	o, ok := other.(*protobufParsed)
	return ok && p.text == o.text
}

func (p *protobufParsed) hasField(name string) bool {
	messages := p.file.Messages()
	for i := range messages.Len() {
		if messages.Get(i).Fields().ByName(protoreflect.Name(name)) != nil {
			return true
		}
	}
	return false
}

func (p *protobufParsed) unreadable(writer parsedSchema, _ bool) ([]string, error) {
	return compareProtobuf(writer.(*protobufParsed).file, p.file), nil
}
