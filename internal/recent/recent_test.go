package recent_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/recent"
)

func has(m *recent.Map[string, int], key string) bool {
	_, ok := m.Get(key)
	return ok
}

func TestAnEntryIsKeptForItsAgeAfterEachUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := recent.New[string, int](time.Minute, 100)
		m.Put("used", 1)
		for i := range 100 {
			time.Sleep(59 * time.Second)
			value, ok := m.Get("used")
			assert.True(t, ok, i)
			assert.Equal(t, 1, value)
			m.Put(fmt.Sprint(i), i)
		}
	})
}

func TestAnEntryThatIsNotUsedLeavesWithinTwoAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := recent.New[string, int](time.Minute, 100)
		m.Put("left", 1)
		time.Sleep(time.Minute)
		assert.Equal(t, 1, m.Len())
		time.Sleep(time.Minute)
		assert.Zero(t, m.Len())
		assert.False(t, has(m, "left"))
	})
}

func TestItHoldsTwiceItsSizeAtMostAndTheLatestOfThem(t *testing.T) {
	m := recent.New[string, int](time.Hour, 100)
	for i := range 1000 {
		m.Put(fmt.Sprint(i), i)
		m.Get("0")
		assert.LessOrEqual(t, m.Len(), 200)
	}
	for i := 900; i < 1000; i++ {
		assert.True(t, has(m, fmt.Sprint(i)), i)
	}
	assert.True(t, has(m, "0"), "used all the time")
	assert.False(t, has(m, "1"))
}

func TestAddKeepsWhatIsThereAndPutReplacesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := recent.New[string, int](time.Minute, 100)
		assert.Equal(t, 1, m.Add("a", 1))
		assert.Equal(t, 1, m.Add("a", 2))
		m.Put("a", 3)
		time.Sleep(time.Minute)
		assert.Equal(t, 1, m.Len()) // a generation later
		assert.Equal(t, 3, m.Add("a", 4))
		time.Sleep(time.Minute)
		m.Put("a", 5)
		assert.Equal(t, 5, m.Add("a", 6))
		assert.Equal(t, 1, m.Len(), "one entry is not counted in both generations")
	})
}

func TestManyAddTheSameAndAllGetTheOne(t *testing.T) {
	m := recent.New[int, *atomic.Int64](time.Hour, 50)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 5000 {
				counter, ok := m.Get(i % 40)
				if !ok {
					counter = m.Add(i%40, new(atomic.Int64))
				}
				counter.Add(1)
			}
		})
	}
	all.Wait()
	var sum int64
	for i := range 40 {
		counter, _ := m.Get(i)
		sum += counter.Load()
	}
	assert.EqualValues(t, 8*5000, sum)
}
