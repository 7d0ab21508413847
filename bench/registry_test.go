package bench_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
)

const (
	registryPeriod = 3 * time.Second
	registryRate   = 5000
)

// registryStores names the stores, each with how to get an empty one: as a variable of the
// registry's environment.
var registryStores = []struct {
	name  string
	empty func(*testing.B) string
}{
	{"memory", func(*testing.B) string { return "POSTRIDER_REGISTRY_STORE=memory" }},
	{"postgres", func(b *testing.B) string {
		needServers(b, "POSTGRES_URL")
		return "POSTRIDER_REGISTRY_STORE=" + testserver.Postgres(b)
	}},
}

// oneCore is what "one core" means: Go code runs on one at a time.
const oneCore = "GOMAXPROCS=1"

// BenchmarkRegistry measures the requests that a registry is asked all the time: a schema by
// its id, and the id of a schema that it knows already.
func BenchmarkRegistry(b *testing.B) {
	for _, store := range registryStores {
		b.Run(store.name, func(b *testing.B) {
			env := store.empty(b)
			measured := newFigures()
			for b.Loop() {
				p := startRegistry(b, []string{oneCore, env})
				h := newHammer(p.url)
				known := registrations(100)
				ids := h.register(b, known)
				for _, kind := range []struct {
					name     string
					requests [][]byte
				}{{"get", ids}, {"register", known}} {
					before, _ := benchmark.CPUTime(p.pid())
					all := h.run(b, kind.requests, registryPeriod, 0)
					after, _ := benchmark.CPUTime(p.pid())
					measured.add(kind.name+"/s", all.perSecond)
					measured.add(kind.name+"_cpu_us", (after-before).Seconds()*1e6/float64(all.requests))
					steady := h.run(b, kind.requests, registryPeriod, registryRate)
					measured.add(fmt.Sprintf("%s_p99_ms@%d/s", kind.name, registryRate), steady.p99)
				}
				p.stop()
			}
			measured.report(b)
		})
	}
}

// BenchmarkRegistryMemory measures what schemas take, each in a subject of its own and of
// about 600 bytes, once every one of them was asked for; and how soon a registry answers
// after its start.
func BenchmarkRegistryMemory(b *testing.B) {
	for _, store := range registryStores {
		b.Run(store.name, func(b *testing.B) {
			sizes := []int{1000, 10_000}
			stores := make([]string, len(sizes))
			if store.name != "memory" { // which begins empty every time
				for i, n := range sizes {
					stores[i] = store.empty(b)
					p := startRegistry(b, []string{stores[i]})
					newHammer(p.url).register(b, registrations(n))
					p.stop()
				}
			}
			measured := newFigures()
			for b.Loop() {
				for i, n := range sizes {
					if store.name == "memory" {
						stores[i] = store.empty(b)
					}
					started := time.Now()
					p := startRegistry(b, []string{oneCore, stores[i]})
					h := newHammer(p.url)
					h.each(b, [][]byte{get("/config")}, nil)
					measured.add(fmt.Sprintf("start_ms@%d", n), time.Since(started).Seconds()*1e3)
					h.each(b, h.register(b, registrations(n)), nil)
					measured.memory(b, fmt.Sprintf("peak_rss_MB@%d", n), p.pid())
					p.stop()
				}
			}
			measured.report(b)
		})
	}
}

// registrations returns requests to register so many schemas.
func registrations(n int) [][]byte {
	requests := make([][]byte, n)
	for i := range requests {
		name := "created_" + strconv.Itoa(i)
		schema := strings.Replace(benchmark.OrderSchema, `"created"`, `"`+name+`"`, 1)
		body, err := json.Marshal(map[string]string{"schema": schema})
		if err != nil {
			panic(err) // strings always can be
		}
		requests[i] = post("/subjects/order."+name+"/versions", string(body))
	}
	return requests
}

// register sends registrations, and returns requests for the schemas by their ids.
func (h hammer) register(b *testing.B, registrations [][]byte) [][]byte {
	b.Helper()
	byID := make([][]byte, len(registrations))
	h.each(b, registrations, func(n int, body []byte) error {
		var answer struct{ ID int }
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		byID[n] = get("/schemas/ids/" + strconv.Itoa(answer.ID))
		return nil
	})
	return byID
}
