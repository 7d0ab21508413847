package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/benchmark"
)

// hammer sends requests over so many connections, the next when the one before was answered,
// in bytes made beforehand: net/http's client would cost more than the server that is measured.
type hammer struct {
	address     string // host:port
	connections int
}

func newHammer(url string) hammer {
	return hammer{strings.TrimPrefix(url, "http://"), 16}
}

func get(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: registry\r\n\r\n")
}

func post(path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: registry\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: %d\r\n\r\n%s",
		path, len(body), body)
}

// answered is what came of a hammer's requests.
type answered struct {
	perSecond float64
	p99       float64 // in milliseconds
	requests  int
}

// run sends requests in turn for a period: at a rate, if one is given, else as fast as they
// are answered. With a rate a request's time begins when it is due, so that those which had
// to wait for a late one count as late too.
func (h hammer) run(b *testing.B, requests [][]byte, period time.Duration, rate int) answered {
	b.Helper()
	took := make([][]time.Duration, h.connections)
	began := time.Now()
	group, ctx := errgroup.WithContext(b.Context())
	for c := range h.connections {
		group.Go(func() error {
			return h.dial(ctx, func(w *wire) error {
				for n := c; ; n += h.connections {
					due := time.Now()
					if rate > 0 {
						due = began.Add(time.Duration(n) * time.Second / time.Duration(rate))
						if err := until(ctx, due); err != nil {
							return err
						}
					}
					if due.Sub(began) >= period {
						return nil
					}
					if _, err := w.roundTrip(requests[n%len(requests)]); err != nil {
						return err
					}
					took[c] = append(took[c], time.Since(due))
				}
			})
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	elapsed := time.Since(began)
	all := slices.Concat(took...)
	slices.Sort(all)
	return answered{float64(len(all)) / elapsed.Seconds(), benchmark.Percentile(all, .99), len(all)}
}

// each sends every request once and hands every answer on, never two at once for the same
// connection.
func (h hammer) each(b *testing.B, requests [][]byte, take func(n int, body []byte) error) {
	b.Helper()
	group, ctx := errgroup.WithContext(b.Context())
	for c := range h.connections {
		group.Go(func() error {
			return h.dial(ctx, func(w *wire) error {
				for n := c; n < len(requests); n += h.connections {
					body, err := w.roundTrip(requests[n])
					if err == nil && take != nil {
						err = take(n, body)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// wire is a connection that carries one request at a time.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte // of the last answer
}

func (h hammer) dial(ctx context.Context, use func(*wire) error) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	return use(&wire{conn: conn, in: bufio.NewReader(conn)})
}

// roundTrip returns the body of the answer, which is good until the next one. It reads no more
// of the answer's head than it needs: with net/http's reader the registry stood idle for a
// quarter of the time, for want of requests.
func (w *wire) roundTrip(request []byte) ([]byte, error) {
	if _, err := w.conn.Write(request); err != nil {
		return nil, err
	}
	first, err := w.in.ReadSlice('\n') // HTTP/1.1 200 OK
	if err != nil {
		return nil, err
	}
	status := strings.TrimSpace(string(first))
	length := -1
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		name, value, found := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		if !found {
			break
		}
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, fmt.Errorf("the registry answers %s and does not say how long its answer is", status)
	}
	w.body = slices.Grow(w.body[:0], length)[:length]
	if _, err = io.ReadFull(w.in, w.body); err == nil && status != "HTTP/1.1 200 OK" {
		err = fmt.Errorf("the registry answers %s: %s", status, w.body)
	}
	return w.body, err
}

func until(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
