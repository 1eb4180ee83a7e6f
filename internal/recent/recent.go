// Package recent remembers what was used lately.
package recent

import (
	"sync"
	"time"
)

// Map is a map that forgets what is not used for a while, for any number of goroutines. It keeps two
// generations and drops the older one whole when it is time for a new one; what is found in the older one
// moves to the younger. So nothing is kept for an entry but itself: no time, no place in a list, no object
// for the collector to visit.
type Map[K comparable, V any] struct {
	age  time.Duration
	size int

	mu         sync.RWMutex
	young, old map[K]V
	turned     time.Time // when young was begun
}

// New makes a Map that keeps an entry for at least age after its last use, unless more than size others
// were used since. It holds twice size at most. Entries leave as others are added or counted.
func New[K comparable, V any](age time.Duration, size int) *Map[K, V] {
	return &Map[K, V]{age: age, size: size, young: map[K]V{}, turned: time.Now()}
}

// Get finds an entry and counts as a use of it.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	m.mu.RLock()
	value, ok = m.young[key]
	isOld := false
	if !ok {
		value, isOld = m.old[key]
	}
	m.mu.RUnlock()
	if isOld {
		return m.Add(key, value), true
	}
	return value, ok
}

// Add enters value, unless there is an entry for key, and returns what is there then.
func (m *Map[K, V]) Add(key K, value V) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	if known, ok := m.young[key]; ok {
		return known
	}
	if known, ok := m.old[key]; ok {
		value = known
		delete(m.old, key)
	}
	m.young[key] = value
	return value
}

// Put enters value in place of what there is.
func (m *Map[K, V]) Put(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	delete(m.old, key)
	m.young[key] = value
}

// Len is the number of entries.
func (m *Map[K, V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	return len(m.young) + len(m.old)
}

// turn begins a generation if the young one is of age or full.
func (m *Map[K, V]) turn() {
	if now := time.Now(); now.Sub(m.turned) >= m.age || len(m.young) >= m.size {
		m.young, m.old, m.turned = map[K]V{}, m.young, now
	}
}
