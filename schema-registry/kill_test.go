package schemaregistry

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serveVariable has the store of a registry that this test binary is to be, instead of tests.
const serveVariable = "REGISTRY_TEST_SERVE"

// serve is the process that tests kill. It says its address first.
func serve(url string) {
	store, err := OpenStore(context.Background(), url)
	if err == nil {
		var listener net.Listener
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
			fmt.Println(listener.Addr())
			err = http.Serve(listener, NewHandler(New(store), HandlerConfig{}))
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process is a registry in a process of its own.
type process struct {
	cmd *exec.Cmd
	url string
}

func startProcess(t *testing.T, storeURL string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"="+storeURL)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	return &process{cmd, "http://" + address[:len(address)-1]}
}

// acknowledgement is what a client was told of its registration.
type acknowledgement struct {
	subject string
	schema  string
	id      int
}

func TestRegistry_LosesNothingWhenKilled(t *testing.T) {
	t.Parallel()
	for name, newURL := range storeURLs {
		if name == "memory" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killInTheMiddle(t, newURL(t))
		})
	}
}

func killInTheMiddle(t *testing.T, storeURL string) {
	const clients, subjects = 8, 5
	each := 10_000 / clients
	if testing.Short() {
		each = 800 / clients
	}
	p := startProcess(t, storeURL)
	var base atomic.Pointer[string]
	base.Store(&p.url)
	setUp := newTestClient(t, ClientConfig{URL: p.url})
	must(t, setUp.do(t.Context(), http.MethodPut, "/config", map[string]string{"compatibility": "NONE"}, &map[string]any{}))

	var mu sync.Mutex
	var acknowledged []acknowledgement
	half := make(chan struct{})
	restarted := make(chan struct{})
	start := time.Now()
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			client := newTestClient(t, ClientConfig{URL: *base.Load()})
			for i := range each {
				a := acknowledgement{subject: fmt.Sprint("s", i%subjects), schema: record(fmt.Sprintf("c%d_%d", c, i))}
				var err error
				if a.id, err = client.Register(t.Context(), a.subject, a.schema); err != nil {
					// It may have been written: only asking again tells.
					<-restarted
					client = newTestClient(t, ClientConfig{URL: *base.Load()})
					a.id, err = client.Register(t.Context(), a.subject, a.schema)
				}
				if err != nil {
					t.Errorf("after the restart: %v", err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, a)
				if len(acknowledged) == clients*each/2 {
					close(half)
				}
				mu.Unlock()
			}
		})
	}
	<-half
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait() // says that it was killed
	p = startProcess(t, storeURL)
	base.Store(&p.url)
	close(restarted)
	group.Wait()
	t.Logf("%d registrations by %d clients in %v, killed in the middle", clients*each, clients, time.Since(start).Round(time.Millisecond))
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()

	r := openRegistry(t, storeURL)
	if len(acknowledged) != clients*each {
		t.Errorf("%d acknowledged, want %d", len(acknowledged), clients*each)
	}
	seen := map[int]string{}
	for _, a := range acknowledged {
		if other, twice := seen[a.id]; twice {
			t.Fatalf("ID %d stands for %s and %s", a.id, other, a.schema)
		}
		seen[a.id] = a.schema
		v, err := r.SchemaByID(t.Context(), a.id, "")
		if err != nil || v.Schema != a.schema || v.Subject != a.subject {
			t.Fatalf("ID %d was acknowledged for %s in %s, now: %v, %v", a.id, a.schema, a.subject, v, err)
		}
	}
	if ids := slices.Sorted(maps.Keys(seen)); ids[0] != 1 || ids[len(ids)-1] != len(ids) {
		t.Errorf("IDs from %d to %d, want %d without gaps", ids[0], ids[len(ids)-1], len(ids))
	}
	for i := range subjects {
		numbers, err := r.Versions(t.Context(), fmt.Sprint("s", i), WithDeleted)
		must(t, err)
		if numbers[0] != 1 || numbers[len(numbers)-1] != len(numbers) {
			t.Errorf("subject s%d has versions from %d to %d, but %d", i, numbers[0], numbers[len(numbers)-1], len(numbers))
		}
	}
}
