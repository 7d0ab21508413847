package schemaregistry

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// MemoryStore keeps all in memory and forgets it with the process. It is for trying and for
// tests.
type MemoryStore struct {
	mu       sync.RWMutex
	lastID   int
	subjects map[string][]Version
	ids      map[string]int // of texts that are in use
	schemas  map[int]string // the same, by ID
	levels   map[string]Level
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{
		subjects: make(map[string][]Version),
		ids:      make(map[string]int),
		schemas:  make(map[int]string),
		levels:   make(map[string]Level),
	}
}

// Subjects implements Store.
func (s *MemoryStore) Subjects(context.Context) (map[string][]Version, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	subjects := maps.Clone(s.subjects)
	for name, versions := range subjects {
		subjects[name] = slices.Clone(versions)
	}
	return subjects, nil
}

// Versions implements Store.
func (s *MemoryStore) Versions(_ context.Context, subject string) ([]Version, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.subjects[subject]), nil
}

// SchemaByID implements Store.
func (s *MemoryStore) SchemaByID(_ context.Context, id int) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if schema, ok := s.schemas[id]; ok {
		return schema, nil
	}
	return "", errNoSchema
}

// AddVersion implements Store.
func (s *MemoryStore) AddVersion(_ context.Context, subject, schema string, after int) (Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := s.subjects[subject]
	highest := 0
	if len(versions) > 0 {
		highest = versions[len(versions)-1].Version
	}
	if highest != after {
		return Version{}, errConflict
	}
	id, known := s.ids[schema]
	if !known {
		s.lastID++
		id = s.lastID
		s.ids[schema], s.schemas[id] = id, schema
	}
	v := Version{Version: after + 1, ID: id, Schema: schema}
	s.subjects[subject] = append(versions, v)
	return v, nil
}

// DeleteVersions implements Store.
func (s *MemoryStore) DeleteVersions(_ context.Context, subject string, numbers []int, permanent bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := s.subjects[subject]
	if !permanent {
		for i := range versions {
			if slices.Contains(numbers, versions[i].Version) {
				versions[i].Deleted = true
			}
		}
		return nil
	}
	versions = slices.DeleteFunc(versions, func(v Version) bool { return slices.Contains(numbers, v.Version) })
	s.subjects[subject] = versions
	if len(versions) == 0 {
		delete(s.subjects, subject)
		delete(s.levels, subject)
	}
	used := make(map[int]bool)
	for _, versions := range s.subjects {
		for _, v := range versions {
			used[v.ID] = true
		}
	}
	maps.DeleteFunc(s.ids, func(_ string, id int) bool { return !used[id] })
	maps.DeleteFunc(s.schemas, func(id int, _ string) bool { return !used[id] })
	return nil
}

// Level implements Store.
func (s *MemoryStore) Level(_ context.Context, subject string) (Level, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.levels[subject], nil
}

// SetLevel implements Store.
func (s *MemoryStore) SetLevel(_ context.Context, subject string, level Level) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if level == "" {
		delete(s.levels, subject)
	} else {
		s.levels[subject] = level
	}
	return nil
}

// Ping implements Store.
func (s *MemoryStore) Ping(context.Context) error { return nil }
