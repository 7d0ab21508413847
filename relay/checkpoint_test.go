package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

// The scripts under testdata/checkpoint drive a Checkpoint, one command a line:
//
//	start LSN           the slot's confirmed LSN; first line only
//	begin NAME          open a transaction
//	add [N]             an event, or N, of the open transaction
//	commit LSN          close the open transaction, which ends at LSN
//	progress LSN[..LSN] a keepalive, or one for every LSN of a range
//	ack NAME/I …        acknowledge in one call; I..J for a range
//	transactions I..J   transactions named I to J of one event each, I its end
//	ack-all I..J        acknowledge the event of each of those
//	flushed → LSN       the LSN that may be confirmed
//	oldest → NAME       the oldest transaction that is open or not wholly acknowledged
//	observed → NAME …   transactions whose last event was acknowledged since the last time
func TestCheckpoint_Scripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/checkpoint/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runCheckpointScript(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// checkpointScript is a Checkpoint with the names that a script gives to its transactions.
type checkpointScript struct {
	*Checkpoint
	tickets  map[string]Ticket
	added    map[string]int
	acked    map[string]bool // NAME/I
	names    map[time.Time]string
	open     string
	observed []string
}

// runCheckpointScript returns the script with every expected value as the checkpoint has it.
func runCheckpointScript(t *testing.T, script string) string {
	t.Helper()
	s := &checkpointScript{
		tickets: make(map[string]Ticket), added: make(map[string]int),
		acked: make(map[string]bool), names: make(map[time.Time]string),
	}
	s.Checkpoint = NewCheckpoint(0, s.observe)
	lines := strings.Split(script, "\n")
	for i, line := range lines {
		command, comment, _ := strings.Cut(line, "#")
		command, expected, query := strings.Cut(command, "→")
		fields := strings.Fields(command)
		if len(fields) == 0 {
			continue
		}
		answer, err := s.run(fields[0], fields[1:])
		if err != nil {
			t.Fatalf("line %d: %s: %v", i+1, line, err)
		}
		if !query {
			continue
		}
		if strings.TrimSpace(expected) != answer {
			lines[i] = command + "→ " + answer
			if comment != "" {
				lines[i] += "     #" + comment
			}
		}
	}
	return strings.Join(lines, "\n")
}

func (s *checkpointScript) observe(committed, _ time.Time) {
	s.observed = append(s.observed, s.names[committed])
}

func (s *checkpointScript) run(command string, args []string) (answer string, err error) {
	arg := ""
	if len(args) > 0 {
		arg = args[0]
	}
	switch command {
	case "start":
		lsn, err := pglogrepl.ParseLSN(arg)
		s.Checkpoint = NewCheckpoint(lsn, s.observe)
		return "", err
	case "begin":
		s.begin(arg)
	case "add":
		n := 1
		if arg != "" {
			n, err = strconv.Atoi(arg)
		}
		s.add(n)
		return "", err
	case "commit":
		lsn, err := pglogrepl.ParseLSN(arg)
		s.Commit(s.tickets[s.open], lsn)
		return "", err
	case "progress":
		from, to, isRange := strings.Cut(arg, "..")
		if !isRange {
			to = from
		}
		first, err := pglogrepl.ParseLSN(from)
		if err != nil {
			return "", err
		}
		last, err := pglogrepl.ParseLSN(to)
		for lsn := first; lsn <= last; lsn++ {
			s.Progress(lsn)
		}
		return "", err
	case "ack":
		return "", s.ack(args)
	case "transactions":
		return "", eachOf(arg, func(i int) error {
			s.begin(strconv.Itoa(i))
			s.add(1)
			s.Commit(s.tickets[s.open], LSN(i))
			return nil
		})
	case "ack-all":
		return "", eachOf(arg, func(i int) error { return s.ack([]string{fmt.Sprintf("%d/0", i)}) })
	case "flushed":
		return s.Flushed().String(), nil
	case "oldest":
		committed, ok := s.Oldest()
		if !ok {
			return "none", nil
		}
		return s.names[committed], nil
	case "observed":
		defer func() { s.observed = nil }()
		if len(s.observed) == 0 {
			return "none", nil
		}
		return strings.Join(s.observed, " "), nil
	default:
		return "", errors.New("no such command")
	}
	return "", nil
}

// begin opens a transaction, which its commit time tells from the others.
func (s *checkpointScript) begin(name string) {
	committed := time.Unix(int64(len(s.names)), 0)
	s.names[committed] = name
	s.open = name
	s.tickets[name] = s.Begin(committed)
}

func (s *checkpointScript) add(n int) {
	for range n {
		s.Add(s.tickets[s.open])
	}
	s.added[s.open] += n
}

func (s *checkpointScript) ack(events []string) error {
	var tickets []Ticket
	for _, e := range events {
		name, index, _ := strings.Cut(e, "/")
		err := eachOf(index, func(i int) error {
			id := fmt.Sprintf("%s/%d", name, i)
			if i >= s.added[name] || s.acked[id] {
				return fmt.Errorf("%s was never added, or acknowledged before", id)
			}
			s.acked[id] = true
			tickets = append(tickets, s.tickets[name])
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.Ack(tickets)
	return nil
}

// eachOf calls f for every number of "I..J", or for "I".
func eachOf(numbers string, f func(i int) error) error {
	from, to, isRange := strings.Cut(numbers, "..")
	if !isRange {
		to = from
	}
	first, err := strconv.Atoi(from)
	if err != nil {
		return err
	}
	last, err := strconv.Atoi(to)
	if err != nil {
		return err
	}
	for i := first; i <= last; i++ {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// modelCheckpoint is what a checkpoint is, without a thought of its cost: a line of
// transactions, and flushed is the end of its longest prefix that is closed and acknowledged.
type modelCheckpoint struct {
	start LSN
	line  []modelTransaction
}

type modelTransaction struct {
	ticket         Ticket
	end            LSN
	closed         bool
	added, unacked int
}

func (m *modelCheckpoint) flushed() LSN {
	lsn := m.start
	for _, tx := range m.line {
		if !tx.closed || tx.unacked > 0 {
			break
		}
		lsn = max(lsn, tx.end)
	}
	return lsn
}

func (m *modelCheckpoint) unacked() []int {
	var which []int
	for i, tx := range m.line {
		if tx.unacked > 0 {
			which = append(which, i)
		}
	}
	return which
}

func TestCheckpoint_AgreesWithTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := LSN(rapid.IntRange(0, 50).Draw(t, "start"))
		model := modelCheckpoint{start: start}
		observed, began := 0, time.Now()
		c := NewCheckpoint(start, func(_, now time.Time) {
			observed++
			if now.Before(began) || now.After(time.Now()) {
				t.Fatalf("acknowledged at %v, which is not now", now)
			}
		})
		lsn := LSN(10)
		open := -1 // index of the open transaction in the model's line
		next := func() LSN {
			lsn += LSN(rapid.IntRange(0, 3).Draw(t, "wal"))
			return lsn - LSN(rapid.SampledFrom([]int{0, 0, 0, 5}).Draw(t, "stale by"))
		}
		flushed := c.Flushed()
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				if open >= 0 {
					t.Skip("a transaction is open")
				}
				open = len(model.line)
				model.line = append(model.line, modelTransaction{ticket: c.Begin(time.Unix(int64(open), 0))})
			},
			"add": func(t *rapid.T) {
				if open < 0 {
					t.Skip("no transaction is open")
				}
				tx := &model.line[open]
				for range rapid.IntRange(1, 3).Draw(t, "events") {
					c.Add(tx.ticket)
					tx.added++
					tx.unacked++
				}
			},
			"commit": func(t *rapid.T) {
				if open < 0 {
					t.Skip("no transaction is open")
				}
				tx := &model.line[open]
				tx.end, tx.closed = next(), true
				c.Commit(tx.ticket, tx.end)
				open = -1
			},
			"progress": func(*rapid.T) {
				tx := modelTransaction{end: next(), closed: true}
				model.line = append(model.line, tx)
				c.Progress(tx.end)
			},
			"ack": func(t *rapid.T) {
				var tickets []Ticket
				for range rapid.IntRange(1, 5).Draw(t, "acks") {
					unacked := model.unacked()
					if len(unacked) == 0 {
						break
					}
					tx := &model.line[rapid.SampledFrom(unacked).Draw(t, "transaction")]
					tx.unacked--
					tickets = append(tickets, tx.ticket)
				}
				c.Ack(tickets)
			},
			"": func(t *rapid.T) {
				if got, want := c.Flushed(), model.flushed(); got != want {
					t.Fatalf("flushed is %s, the model says %s: %+v", got, want, model.line)
				}
				if c.Flushed() < flushed {
					t.Fatalf("flushed fell from %s to %s", flushed, c.Flushed())
				}
				flushed = c.Flushed()
				done, oldest := 0, -1
				blocked := false
				for i, tx := range model.line {
					blocked = blocked || !tx.closed || tx.unacked > 0
					switch {
					case tx.added > 0 && !blocked:
						done++
					case (tx.added > 0 || !tx.closed) && oldest < 0:
						oldest = i
					}
				}
				if observed != done {
					t.Fatalf("%d transactions were reported as acknowledged, the model says %d", observed, done)
				}
				committed, any := c.Oldest()
				if any != (oldest >= 0) || any && committed.Unix() != int64(oldest) {
					t.Fatalf("oldest is %v %v, the model says transaction %d", committed, any, oldest)
				}
			},
		})
	})
}

// Keepalives come for as long as Kafka is down, and the checkpoint must not grow with them.
func TestCheckpoint_KeepalivesBehindAnEventCostNoMemory(t *testing.T) {
	c := NewCheckpoint(0, nil)
	tx := c.Begin(time.Unix(0, 0))
	c.Add(tx)
	c.Commit(tx, 10)
	lsn := LSN(10)
	allocs := testing.AllocsPerRun(1, func() {
		for range 100_000 {
			lsn++
			c.Progress(lsn)
		}
	})
	if allocs != 0 {
		t.Errorf("100,000 keepalives cost %v allocations", allocs)
	}
	c.Ack([]Ticket{tx})
	if c.Flushed() != lsn {
		t.Errorf("flushed is %s after the event was acknowledged, want the last keepalive's %s", c.Flushed(), lsn)
	}
}

func TestCheckpoint_IsUsedByManyGoroutines(t *testing.T) {
	t.Parallel()
	const transactions, ackers = 5000, 4
	type event struct {
		ticket Ticket
		tx     int
	}
	var (
		c       = NewCheckpoint(0, nil)
		events  = make(chan event, 256)
		unacked [transactions + 1]atomic.Int32 // by end LSN; counted down before the checkpoint is told
		wg      sync.WaitGroup
		done    = make(chan struct{})
	)
	wg.Go(func() { // the stream
		defer close(events)
		random := rand.New(rand.NewPCG(1, 2))
		for end := 1; end <= transactions; end++ {
			n := random.IntN(4)
			unacked[end].Store(int32(n))
			ticket := c.Begin(time.Unix(int64(end), 0))
			for range n {
				c.Add(ticket)
				events <- event{ticket, end}
			}
			c.Commit(ticket, LSN(end))
			if end%7 == 0 {
				c.Progress(LSN(end))
			}
		}
	})
	var ackersDone sync.WaitGroup
	for seed := range ackers {
		ackersDone.Go(func() { // brokers, each with its own idea of the order
			random := rand.New(rand.NewPCG(uint64(seed), 3))
			var held []event
			ack := func(n int) {
				random.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
				var tickets []Ticket
				for _, e := range held[:n] {
					unacked[e.tx].Add(-1)
					tickets = append(tickets, e.ticket)
				}
				c.Ack(tickets)
				held = append(held[:0], held[n:]...)
			}
			for e := range events {
				if held = append(held, e); len(held) > 50 {
					ack(random.IntN(len(held)))
				}
			}
			ack(len(held))
		})
	}
	wg.Go(func() { // what is confirmed to Postgres
		last, checked := LSN(0), LSN(0)
		for stop := false; !stop; {
			select {
			case <-done:
				stop = true
			default:
			}
			now := c.Flushed()
			if now < last {
				t.Errorf("flushed fell from %s to %s", last, now)
			}
			for ; checked < now; checked++ {
				if n := unacked[checked+1].Load(); n > 0 {
					t.Errorf("flushed is %s with %d events of transaction %s not acknowledged", now, n, checked+1)
				}
			}
			c.Oldest()
			last = now
		}
	})
	ackersDone.Wait()
	close(done)
	wg.Wait()
	if c.Flushed() != transactions {
		t.Errorf("flushed is %s at the end, want %s", c.Flushed(), LSN(transactions))
	}
	if committed, any := c.Oldest(); any {
		t.Errorf("a transaction of %v is still waiting", committed)
	}
}

func TestCheckpoint_WaitReturnsWhenFlushedReachesTheLSN(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewCheckpoint(5, nil)
		if err := c.wait(t.Context(), 5); err != nil {
			t.Errorf("waiting for what is flushed already: %v", err)
		}
		results := make(map[LSN]chan error)
		for _, lsn := range []LSN{20, 10, 15} {
			result := make(chan error, 1)
			results[lsn] = result
			go func() { result <- c.wait(t.Context(), lsn) }()
		}
		returned := func() (which []LSN) {
			synctest.Wait()
			for _, lsn := range []LSN{10, 15, 20} {
				select {
				case err := <-results[lsn]:
					if err != nil {
						t.Errorf("waiting for %s: %v", lsn, err)
					}
					which = append(which, lsn)
				default:
				}
			}
			return which
		}
		tx := c.Begin(time.Now())
		c.Add(tx)
		c.Commit(tx, 15)
		if got := returned(); got != nil {
			t.Errorf("waiters for %v returned before the event was acknowledged", got)
		}
		c.Ack([]Ticket{tx})
		if diff := cmp.Diff([]LSN{10, 15}, returned()); diff != "" {
			t.Errorf("waiters that returned at 0/F (-want +got):\n%s", diff)
		}
		c.Progress(30)
		if diff := cmp.Diff([]LSN{20}, returned()); diff != "" {
			t.Errorf("waiters that returned at 0/1E (-want +got):\n%s", diff)
		}
	})
}

func TestCheckpoint_WaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewCheckpoint(0, nil)
		cause := errors.New("shut down")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- c.wait(ctx, 10) }()
		synctest.Wait()
		cancel(cause)
		if err := <-result; !errors.Is(err, cause) {
			t.Errorf("wait returned %v, want the cause %v", err, cause)
		}
		c.Progress(20) // must not stumble over the one that has gone
		if c.Flushed() != 20 {
			t.Errorf("flushed is %s", c.Flushed())
		}
	})
}
