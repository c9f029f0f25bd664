package synth

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// FromYAML builds the binary that a YAML document describes. Unknown fields
// are errors, and so are anchors, aliases and tags.
func FromYAML(data []byte) ([]byte, error) {
	if len(data) > MaxYAML {
		return nil, fmt.Errorf("description of %d bytes is larger than %d", len(data), MaxYAML)
	}
	if err := plain(data); err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	var d Description
	if err := yaml.UnmarshalWithOptions(data, &d, yaml.Strict()); err != nil {
		// The error would quote the source, and take its time.
		return nil, errors.New("description: " + yaml.FormatError(err, false, false))
	}
	return Build(d)
}

// plain refuses YAML that the parser would need more than linear time or
// memory for: a great many tokens, aliases that multiply, and deep nesting, be it by brackets or by
// many dashes or colons in a row. Indentation cannot nest deeply without
// taking much room itself.
func plain(data []byte) error {
	const mostTokens, mostBrackets, mostInRow = 20_000, 16, 8
	tokens := lexer.Tokenize(string(data))
	if len(tokens) > mostTokens {
		return fmt.Errorf("%d words and signs are too many", len(tokens))
	}
	brackets, inRow, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, inRow = t.Position.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.MappingKeyType, token.DocumentHeaderType, token.DirectiveType:
			return fmt.Errorf("line %d: no anchors, aliases, tags, complex keys, directives or further documents", line)
		case token.SequenceStartType, token.MappingStartType:
			brackets, inRow = brackets+1, 0
		case token.SequenceEndType, token.MappingEndType:
			brackets = max(0, brackets-1)
		case token.CollectEntryType:
			inRow = 0
		case token.SequenceEntryType, token.MappingValueType:
			inRow++
		}
		if brackets > mostBrackets || inRow > mostInRow {
			return fmt.Errorf("line %d: nested too deeply", line)
		}
	}
	return nil
}

// text returns a scalar as it was written, so that 0102 stays four digits.
func text(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.NullNode, *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		return "", false
	}
	if t := node.GetToken(); t != nil {
		return t.Value, true
	}
	return "", false
}

// decode fills a type without methods from a mapping or list.
func decode(node ast.Node, v any) error { return yaml.NodeToValue(node, v, yaml.Strict()) }

// at says where in the document something is wrong.
func at(node ast.Node, format string, args ...any) error {
	line := 0
	if t := node.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

// UnmarshalYAML accepts hexadecimal digits with white space between them.
func (h *Hex) UnmarshalYAML(node ast.Node) error {
	s, ok := text(node)
	if !ok {
		return at(node, "expected hexadecimal digits")
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return at(node, "%v", err)
	}
	*h = b
	return nil
}

// UnmarshalYAML accepts a string or a list.
func (l *List) UnmarshalYAML(node ast.Node) error {
	if s, ok := text(node); ok {
		*l = List{s}
		return nil
	}
	return decode(node, (*[]string)(l))
}

// UnmarshalYAML accepts a name or a mapping.
func (i *Import) UnmarshalYAML(node ast.Node) error {
	type plain Import
	if s, ok := text(node); ok {
		*i = Import{Name: s}
		return nil
	}
	return decode(node, (*plain)(i))
}

// UnmarshalYAML accepts a name or a mapping.
func (f *Definition) UnmarshalYAML(node ast.Node) error {
	type plain Definition
	if s, ok := text(node); ok {
		*f = Definition{Name: s}
		return nil
	}
	return decode(node, (*plain)(f))
}

// UnmarshalYAML accepts a name or a mapping.
func (c *Call) UnmarshalYAML(node ast.Node) error {
	type plain Call
	if s, ok := text(node); ok {
		*c = Call{Name: s}
		return nil
	}
	return decode(node, (*plain)(c))
}

// UnmarshalYAML accepts a string or a whole number.
func (a *Arg) UnmarshalYAML(node ast.Node) error {
	if n, ok := node.(*ast.IntegerNode); ok {
		a.IsNumber = true
		switch v := n.Value.(type) {
		case int64:
			a.Number = v
		case uint64:
			a.Number = int64(min(v, 1<<40)) // too large all the same
		default:
			return at(node, "%v is no whole number", v)
		}
		return nil
	}
	s, ok := text(node)
	if !ok {
		return at(node, "an argument is a string or a whole number")
	}
	a.Text = s
	return nil
}

// UnmarshalYAML accepts hex, a mapping, or a list of these.
func (c *Code) UnmarshalYAML(node ast.Node) error {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		list = &ast.SequenceNode{Values: []ast.Node{node}}
	}
	for _, n := range list.Values {
		type plain Definition
		var f Definition
		var err error
		if _, scalar := text(n); scalar {
			err = f.Code.UnmarshalYAML(n)
		} else {
			err = decode(n, (*plain)(&f))
		}
		if err != nil {
			return err
		}
		*c = append(*c, f)
	}
	return nil
}
