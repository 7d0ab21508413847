package schemaregistry

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// jsonChanges says what is wrong with the changes that let a new JSON Schema refuse what an
// old one has taken; %[1]s is the new one, %[2]s the old one. Their names are those of
// Confluent's registry.
var jsonChanges = map[string]string{
	"ADDED":            "the %[1]s schema has a condition that the %[2]s schema has not",
	"INCREASED":        "the limit of the %[1]s schema is higher than that of the %[2]s schema",
	"DECREASED":        "the limit of the %[1]s schema is lower than that of the %[2]s schema",
	"CHANGED":          "the %[1]s schema differs from the %[2]s schema",
	"NARROWED":         "the %[1]s schema takes less than the %[2]s schema",
	"EXTENDED":         "the %[1]s schema asks for more than the %[2]s schema",
	"EXPANDED":         "the number of the %[1]s schema is a multiple of that of the %[2]s schema",
	"REMOVED":          "the %[1]s schema does not permit what the %[2]s schema does not name",
	"ADDED_TO_OPEN":    "the %[2]s schema took anything here, the %[1]s schema does not",
	"ADDED_TO_UNOPEN":  "the %[1]s schema requires what the %[2]s schema did not have",
	"REMOVED_FROM":     "the %[1]s schema does not permit what the %[2]s schema had here",
	"NOT_COVERED":      "what the schemas say of all other names differs from what one of them says of this one",
	"REQUIRED_ADDED":   "the %[1]s schema requires what was optional in the %[2]s schema",
	"SUBSCHEMAS_WRONG": "the parts of the %[1]s schema do not take all that those of the %[2]s schema took",
}

// jsonLenient are the changes that the policy LENIENT lets pass.
var jsonLenient = map[string]bool{
	"ADDITIONAL_PROPERTIES_NARROWED": true, "ADDITIONAL_PROPERTIES_REMOVED": true, "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL": true,
	"PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": true, "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": true,
}

// jsonProblem is a change that does harm.
type jsonProblem struct{ change, path, why string }

// jsonComparison goes over two schemas side by side. The rules are those of Confluent's
// registry, to the letter where they surprise: what "contains", "propertyNames", "if" and
// the formats of strings say is not compared.
type jsonComparison struct {
	path     []string
	within   map[*jsonNode]bool    // parts of the old schema that are being compared
	pairs    map[[2]*jsonNode]bool // with what
	left     *int                  // how much more work there may be
	problems []jsonProblem
}

// mostJSONSteps bounds a comparison: each part of a combination is compared with each of
// another, and theirs again.
const mostJSONSteps = 200_000

// compareJSONSchemas returns the changes that do harm. The error is that it would take too
// long.
func compareJSONSchemas(old, updated *jsonNode) ([]jsonProblem, error) {
	left := mostJSONSteps
	c := &jsonComparison{within: map[*jsonNode]bool{}, pairs: map[[2]*jsonNode]bool{}, left: &left}
	c.compare(old, updated)
	if left < 0 {
		return nil, errors.New("too many combinations in combinations")
	}
	return c.problems, nil
}

// spend tells whether there may be more work.
func (c *jsonComparison) spend(steps int) bool {
	*c.left -= steps
	return *c.left >= 0
}

func (c *jsonComparison) fail(change, why string) {
	c.problems = append(c.problems, jsonProblem{change, "#/" + strings.Join(c.path, "/"), jsonChanges[why]})
}

// at runs do one step further down.
func (c *jsonComparison) at(step string, do func()) {
	c.path = append(c.path, step)
	do()
	c.path = c.path[:len(c.path)-1]
}

// try returns the problems of a comparison without making them those of c.
func (c *jsonComparison) try(old, updated *jsonNode) []jsonProblem {
	sub := &jsonComparison{path: slices.Clone(c.path), within: c.within, pairs: c.pairs, left: c.left}
	sub.compare(old, updated)
	return sub.problems
}

// compare looks at two schemas for the same place; nil is none.
func (c *jsonComparison) compare(old, updated *jsonNode) {
	switch {
	case updated == nil || !c.spend(1):
		return
	case old == nil:
		c.fail("SCHEMA_ADDED", "ADDED")
		return
	}
	old, updated = old.resolve(), updated.resolve()
	pair := [2]*jsonNode{old, updated}
	if c.pairs[pair] {
		return
	}
	c.pairs[pair] = true
	defer delete(c.pairs, pair)
	if c.oneIsCombined(old, updated) {
		return
	}
	if old.kind != updated.kind {
		bytes := old.attributes["connect.type"] == "bytes" && updated.attributes["connect.type"] == "bytes"
		if old.kind != jsonFalse && updated.kind != jsonEmpty && updated.kind != jsonTrue && !bytes {
			c.fail("TYPE_CHANGED", "CHANGED")
		}
		return
	}
	if c.within[old] {
		return
	}
	c.within[old] = true
	defer delete(c.within, old)
	switch old.kind {
	case jsonString:
		c.strings(old, updated)
	case jsonNumber:
		c.numbers(old, updated)
	case jsonConst:
		if jsonText(old.attributes["const"]) != jsonText(updated.attributes["const"]) {
			c.at("const", func() { c.fail("ENUM_ARRAY_CHANGED", "CHANGED") })
		}
	case jsonEnum:
		c.enums(old, updated)
	case jsonCombined:
		c.combinations(old, updated)
	case jsonNot:
		c.at("not", func() {
			if len(c.try(updated.inner, old.inner)) > 0 {
				c.fail("NOT_TYPE_EXTENDED", "EXTENDED")
			}
		})
	case jsonObject:
		c.objects(old, updated)
	case jsonArray:
		c.arrays(old, updated)
	}
}

// oneIsCombined tells whether a schema fits one part of the other, where that is enough.
func (c *jsonComparison) oneIsCombined(old, updated *jsonNode) bool {
	fits := func(old, updated *jsonNode) bool { return len(c.try(old, updated)) == 0 }
	switch {
	case old.kind != jsonCombined && updated.kind == jsonCombined && (len(updated.parts) == 1 || updated.combination != "allOf"):
		return slices.ContainsFunc(updated.parts, func(part *jsonNode) bool { return fits(old, part) })
	case old.kind == jsonCombined && updated.kind != jsonCombined && (len(old.parts) == 1 || old.combination == "allOf"):
		return slices.ContainsFunc(old.parts, func(part *jsonNode) bool { return fits(part, updated) })
	}
	return false
}

// limits compares numbers that bound something. A lower bound may only fall, an upper one
// only rise.
func (c *jsonComparison) limits(old, updated *jsonNode, lower bool, attribute, name string) {
	before, had := old.number(attribute)
	now, has := updated.number(attribute)
	c.at(attribute, func() {
		switch {
		case !has:
		case !had:
			c.fail(name+"_ADDED", "ADDED")
		default:
			a, _ := before.Float64()
			b, _ := now.Float64()
			if lower && b > a {
				c.fail(name+"_INCREASED", "INCREASED")
			} else if !lower && b < a {
				c.fail(name+"_DECREASED", "DECREASED")
			}
		}
	})
}

func (c *jsonComparison) strings(old, updated *jsonNode) {
	c.limits(old, updated, false, "maxLength", "MAX_LENGTH")
	c.limits(old, updated, true, "minLength", "MIN_LENGTH")
	before, had := old.attributes["pattern"].(string)
	now, has := updated.attributes["pattern"].(string)
	c.at("pattern", func() {
		switch {
		case has && !had:
			c.fail("PATTERN_ADDED", "ADDED")
		case has && before != now:
			c.fail("PATTERN_CHANGED", "CHANGED")
		}
	})
}

func (c *jsonComparison) numbers(old, updated *jsonNode) {
	c.limits(old, updated, false, "maximum", "MAXIMUM")
	c.limits(old, updated, true, "minimum", "MINIMUM")
	c.limits(old, updated, false, "exclusiveMaximum", "EXCLUSIVE_MAXIMUM")
	c.limits(old, updated, true, "exclusiveMinimum", "EXCLUSIVE_MINIMUM")
	before, had := jsonRational(old, "multipleOf")
	now, has := jsonRational(updated, "multipleOf")
	c.at("multipleOf", func() {
		switch {
		case !has:
		case !had:
			c.fail("MULTIPLE_OF_ADDED", "ADDED")
		case new(big.Rat).Quo(before, now).IsInt(): // the same, or less
		case new(big.Rat).Quo(now, before).IsInt():
			c.fail("MULTIPLE_OF_EXPANDED", "EXPANDED")
		default:
			c.fail("MULTIPLE_OF_CHANGED", "CHANGED")
		}
	})
	if old.from != "integer" && updated.from == "integer" {
		c.fail("TYPE_NARROWED", "NARROWED")
	}
}

// jsonRational reads a number above zero.
func jsonRational(n *jsonNode, attribute string) (*big.Rat, bool) {
	text, ok := n.number(attribute)
	if !ok {
		return nil, false
	}
	value, ok := new(big.Rat).SetString(text.String())
	return value, ok && value.Sign() > 0
}

func (c *jsonComparison) enums(old, updated *jsonNode) {
	before, now := jsonValues(old.attributes["enum"]), jsonValues(updated.attributes["enum"])
	c.at("enum", func() {
		switch {
		case containsAll(now, before):
		case containsAll(before, now):
			c.fail("ENUM_ARRAY_NARROWED", "NARROWED")
		default:
			c.fail("ENUM_ARRAY_CHANGED", "CHANGED")
		}
	})
}

func jsonValues(list any) map[string]bool {
	values, _ := list.([]any)
	texts := make(map[string]bool, len(values))
	for _, value := range values {
		texts[jsonText(value)] = true
	}
	return texts
}

func jsonText(value any) string {
	text, _ := encode(value) // it came from JSON
	return string(text)
}

func containsAll(set, subset map[string]bool) bool {
	for member := range subset {
		if !set[member] {
			return false
		}
	}
	return true
}

// combinations looks for a partner in the new schema for each part of the old one, or the
// other way round where it has fewer.
func (c *jsonComparison) combinations(old, updated *jsonNode) {
	if old.combination != updated.combination {
		single, nowSingle := len(old.parts) == 1, len(updated.parts) == 1
		if updated.combination != "anyOf" && (!single || !nowSingle) &&
			(!single || updated.combination != "oneOf") && (!nowSingle || old.combination != "allOf") {
			c.fail("COMBINED_TYPE_CHANGED", "CHANGED")
			return
		}
	}
	parts, nowParts := c.unique(old.parts), c.unique(updated.parts)
	switch {
	case len(parts) < len(nowParts) && updated.combination == "allOf":
		c.fail("PRODUCT_TYPE_EXTENDED", "EXTENDED")
	case len(parts) > len(nowParts) && old.combination != "allOf":
		c.fail("SUM_TYPE_NARROWED", "NARROWED")
	}
	fits := make([][]int, len(parts))
	for i, part := range parts {
		c.at(old.combination+"/"+strconv.Itoa(i), func() {
			for j, now := range nowParts {
				if len(c.try(part, now)) == 0 {
					fits[i] = append(fits[i], j)
				}
			}
		})
	}
	if matching(fits, len(nowParts)) < min(len(parts), len(nowParts)) {
		c.fail("COMBINED_TYPE_SUBSCHEMAS_CHANGED", "SUBSCHEMAS_WRONG")
	}
}

// unique leaves out what is written twice.
func (c *jsonComparison) unique(list []*jsonNode) (unique []*jsonNode) {
	const stepBytes = 64 // about as much work as a step
	seen := map[string]bool{}
	for _, n := range list {
		key := strconv.Itoa(int(n.kind)) + n.from + " " + jsonText(n.attributes)
		if !c.spend(len(key)/stepBytes) || seen[key] {
			continue
		}
		seen[key] = true
		unique = append(unique, n)
	}
	return unique
}

// matching returns how many can have a partner of their own at the same time, where fits are
// the partners that each may have, by augmenting paths.
func matching(fits [][]int, partners int) (matched int) {
	owner := make([]int, partners) // who has a partner, counted from 1
	var find func(who int, seen []bool) bool
	find = func(who int, seen []bool) bool {
		for _, partner := range fits[who] {
			if seen[partner] {
				continue
			}
			seen[partner] = true
			if owner[partner] == 0 || find(owner[partner]-1, seen) {
				owner[partner] = who + 1
				return true
			}
		}
		return false
	}
	for who := range fits {
		if find(who, make([]bool, partners)) {
			matched++
		}
	}
	return matched
}

func (p jsonProblem) String() string {
	return fmt.Sprintf("{errorType:%q, description:\"At path '%s' %s\"}", p.change, escapePercent(p.path), p.why)
}
