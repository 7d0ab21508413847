package schemaregistry

import (
	"container/list"
	"sync"
)

// lru is a bounded cache that forgets what was not asked for the longest. It may be used by
// several goroutines.
type lru[K comparable, V any] struct {
	mu      sync.Mutex
	size    int
	entries map[K]*list.Element
	order   *list.List // of entry[K, V], the latest used in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](size int) *lru[K, V] {
	return &lru[K, V]{size: size, entries: make(map[K]*list.Element), order: list.New()}
}

func (c *lru[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(entry[K, V]).value, true
}

func (c *lru[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.order.Remove(e)
	}
	c.entries[key] = c.order.PushFront(entry[K, V]{key, value})
	if c.order.Len() > c.size {
		oldest := c.order.Remove(c.order.Back()).(entry[K, V])
		delete(c.entries, oldest.key)
	}
}

// forget removes the entries whose key is one of those.
func (c *lru[K, V]) forget(those func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.entries {
		if those(key) {
			c.order.Remove(e)
			delete(c.entries, key)
		}
	}
}
