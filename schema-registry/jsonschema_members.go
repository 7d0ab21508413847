package schemaregistry

import (
	"maps"
	"slices"
	"strconv"
)

// objects compares what the schemas say of objects.
func (c *jsonComparison) objects(old, updated *jsonNode) {
	required, nowRequired := jsonNames(old.attributes["required"]), jsonNames(updated.attributes["required"])
	c.at("required", func() {
		for _, name := range slices.Sorted(maps.Keys(old.properties)) {
			now := updated.properties[name]
			if now != nil && nowRequired[name] && !required[name] && !now.hasDefault() {
				c.at(name, func() { c.fail("REQUIRED_ATTRIBUTE_ADDED", "REQUIRED_ADDED") })
			}
		}
	})
	c.at("properties", func() {
		for _, name := range bothNames(old.properties, updated.properties) {
			c.at(name, func() { c.property(old, updated, name, nowRequired[name]) })
		}
	})
	c.at("dependencies", func() { c.dependencies(old, updated) })
	c.at("additionalProperties", func() { c.others(old, updated, "ADDITIONAL_PROPERTIES") })
	c.limits(old, updated, false, "maxProperties", "MAX_PROPERTIES")
	c.limits(old, updated, true, "minProperties", "MIN_PROPERTIES")
}

// hasDefault tells whether a value is given where a property is missing. null is one too.
func (n *jsonNode) hasDefault() bool {
	_, ok := n.attributes["default"]
	return ok
}

func bothNames[V any](old, updated map[string]V) []string {
	names := maps.Clone(old)
	if names == nil {
		names = map[string]V{}
	}
	maps.Copy(names, updated)
	return slices.Sorted(maps.Keys(names))
}

func (c *jsonComparison) property(old, updated *jsonNode, name string, required bool) {
	before, now := old.properties[name], updated.properties[name]
	switch {
	case now == nil:
		c.removed(before, updated, updated.other(name), "PROPERTY")
	case before != nil:
		c.compare(before, now)
	case old.open():
		c.addedToOpen(now, "PROPERTY")
	default:
		if other := old.other(name); other != nil {
			c.covered(other, now, "PROPERTY_ADDED")
		}
		if required && !now.hasDefault() {
			c.fail("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", "ADDED_TO_UNOPEN")
		}
	}
}

// removed looks at what the new schema names no more; other is what it says of such names.
func (c *jsonComparison) removed(before, updated, other *jsonNode, what string) {
	switch {
	case updated.open():
	case other != nil:
		c.covered(before, other, what+"_REMOVED")
	case before.kind != jsonFalse:
		c.fail(what+"_REMOVED_FROM_CLOSED_CONTENT_MODEL", "REMOVED_FROM")
	}
}

func (c *jsonComparison) addedToOpen(now *jsonNode, what string) {
	if now.target != nil || now.kind != jsonEmpty && now.kind != jsonTrue {
		c.fail(what+"_ADDED_TO_OPEN_CONTENT_MODEL", "ADDED_TO_OPEN")
	}
}

// covered compares what one schema says of a name with what the other says of all others.
func (c *jsonComparison) covered(old, updated *jsonNode, what string) {
	if problems := c.try(old, updated); len(problems) > 0 {
		c.problems = append(c.problems, problems...)
		c.fail(what+"_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", "NOT_COVERED")
	}
}

// dependencies compares what else an object must have, or be, that has a property.
func (c *jsonComparison) dependencies(old, updated *jsonNode) {
	lists, nowLists := jsonLists(old.attributes["dependencies"]), jsonLists(updated.attributes["dependencies"])
	for _, name := range slices.Sorted(maps.Keys(nowLists)) {
		before, had := lists[name]
		now := nowLists[name]
		c.at(name, func() {
			switch {
			case !had:
				c.fail("DEPENDENCY_ARRAY_ADDED", "ADDED")
			case containsAll(before, now):
			case containsAll(now, before):
				c.fail("DEPENDENCY_ARRAY_EXTENDED", "EXTENDED")
			default:
				c.fail("DEPENDENCY_ARRAY_CHANGED", "CHANGED")
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(updated.dependent)) {
		c.at(name, func() {
			if before := old.dependent[name]; before != nil {
				c.compare(before, updated.dependent[name])
			} else {
				c.fail("DEPENDENCY_SCHEMA_ADDED", "ADDED")
			}
		})
	}
}

// jsonLists returns the members of an object that are lists of names.
func jsonLists(value any) map[string]map[string]bool {
	members, _ := value.(map[string]any)
	lists := map[string]map[string]bool{}
	for name, member := range members {
		if list, ok := member.([]any); ok && len(list) > 0 {
			lists[name] = jsonNames(list)
		}
	}
	return lists
}

// others compares what the schemas say of all that they do not name.
func (c *jsonComparison) others(old, updated *jsonNode, name string) {
	switch {
	case old.permitsMore() && !updated.permitsMore():
		c.fail(name+"_REMOVED", "REMOVED")
	case old.permitsMore() != updated.permitsMore():
	case old.additional == nil && updated.additional != nil:
		c.fail(name+"_NARROWED", "NARROWED")
	default:
		c.compare(old.additional, updated.additional)
	}
}

func (c *jsonComparison) arrays(old, updated *jsonNode) {
	c.at("items", func() { c.compare(old.inner, updated.inner) })
	for i := range max(len(old.parts), len(updated.parts)) {
		c.at("items/"+strconv.Itoa(i), func() {
			switch {
			case i >= len(updated.parts):
				c.removed(old.parts[i], updated, updated.additional, "ITEM")
			case i < len(old.parts):
				c.compare(old.parts[i], updated.parts[i])
			case old.open():
				c.addedToOpen(updated.parts[i], "ITEM")
			case old.additional != nil:
				c.covered(old.additional, updated.parts[i], "ITEM_ADDED")
			}
		})
	}
	c.at("additionalItems", func() { c.others(old, updated, "ADDITIONAL_ITEMS") })
	c.limits(old, updated, false, "maxItems", "MAX_ITEMS")
	c.limits(old, updated, true, "minItems", "MIN_ITEMS")
	if updated.attributes["uniqueItems"] == true && old.attributes["uniqueItems"] != true {
		c.at("uniqueItems", func() { c.fail("UNIQUE_ITEMS_ADDED", "ADDED") })
	}
}
