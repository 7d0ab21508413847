package access

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds how often each of many clients may do something.
type limiter struct {
	perSecond rate.Limit
	atOnce    int
	mu        sync.Mutex
	clients   map[string]*rate.Limiter
}

// maxClients bounds how many clients a limiter remembers. Where more come, it forgets those
// that have been quiet, and if there are none all of them: they begin anew.
const maxClients = 10_000

// newLimiter returns a limiter; with perSecond 0 it lets everything through.
func newLimiter(perSecond, atOnce float64) *limiter {
	return &limiter{perSecond: rate.Limit(perSecond), atOnce: max(1, int(math.Ceil(atOnce))), clients: make(map[string]*rate.Limiter)}
}

// allow takes one turn of a client. If there is none, it tells after how many seconds there
// will be.
func (l *limiter) allow(client string) (waitSeconds int, ok bool) {
	if l.perSecond <= 0 {
		return 0, true
	}
	now := time.Now()
	turn := l.of(client, now).ReserveN(now, 1)
	wait := turn.DelayFrom(now)
	if wait == 0 {
		return 0, true
	}
	turn.CancelAt(now)
	return int(math.Ceil(wait.Seconds())), false
}

func (l *limiter) of(client string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.clients[client]; ok {
		return known
	}
	if len(l.clients) >= maxClients {
		for key, known := range l.clients {
			if known.TokensAt(now) >= float64(l.atOnce) {
				delete(l.clients, key)
			}
		}
		if len(l.clients) >= maxClients {
			clear(l.clients)
		}
	}
	added := rate.NewLimiter(l.perSecond, l.atOnce)
	l.clients[client] = added
	return added
}

// clientAddress is the address that a request came from, without its port.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// limitKey is what counts as one client: a name, or for those without one an address, or the
// network of an IPv6 address, of which a client has as many as it likes.
func limitKey(who, address string) string {
	if who != Anonymous {
		return "name " + who
	}
	return "address " + network(address)
}

func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	prefix, _ := ip.WithZone("").Prefix(64) // no error with 64 bits of an IPv6 address
	return prefix.String()
}
