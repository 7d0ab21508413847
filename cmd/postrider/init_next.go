package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// defaultRegistryURL is where `postrider registry` listens.
const defaultRegistryURL = "http://127.0.0.1:8081"

// localPostgres is the database of a new postrider.yaml.
func (s *repoSetup) localPostgres() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:5432/%s?sslmode=disable", s.name)
}

// postgres is the relay's database as a word of a command. A password is not shown.
func (s *repoSetup) postgres() string {
	switch url := s.existing.Postgres.URL; {
	case os.Getenv(postgresVariable) != "", url.String() != string(url):
		return `"$` + postgresVariable + `"`
	case url != "":
		return shellQuote(string(url))
	}
	return shellQuote(s.localPostgres())
}

// postgresVariable overrides postgres.url.
const postgresVariable = "POSTRIDER_POSTGRES_URL"

// next returns the three steps from the files to an event in Kafka. What the relay takes from
// the environment, the commands do, too.
func (s *repoSetup) next() []repoStep {
	postgres := s.postgres()
	register := repoStep{"register the schemas", nil}
	command := "postrider schema register " + shellQuote(filepath.Join(s.dir, s.schemas))
	if os.Getenv("POSTRIDER_REGISTRY_URL") == "" {
		url := defaultRegistryURL
		if u := s.existing.Registry.URL; u != "" && u.String() == string(u) { // no password in it
			url = string(u)
		}
		register.What += " (no registry yet? in another terminal: postrider registry)"
		command += " --registry " + shellQuote(url)
	}
	register.Commands = []string{command}
	config := shellQuote(filepath.Join(s.dir, configName))
	run := repoStep{"see that everything is there, and run the relay", []string{
		"postrider doctor -c " + config,
		"postrider relay -c " + config,
	}}
	table := "make the outbox table"
	if os.Getenv(postgresVariable) == "" && strings.Contains(postgres, postgresVariable) {
		table += " (set " + postgresVariable + " to the URL of the database)"
	}
	steps := []repoStep{{table, []string{s.migrate(postgres)}}, register, run}
	if len(s.repo.schemas) == 0 {
		steps[2].What += "; then, in another terminal, send an event"
		steps[2].Commands = append(steps[2].Commands, "psql "+postgres+
			` -c "SELECT outbox_emit('order', 'order-1', 'order.created', '{\"order_id\": \"order-1\", \"total_cents\": 4840}')"`)
	}
	return steps
}

// migrate returns the tool's command.
func (s *repoSetup) migrate(postgres string) string {
	dir := shellQuote(filepath.Join(s.dir, s.migrations))
	switch s.tool {
	case "goose":
		return fmt.Sprintf("goose -dir %s postgres %s up", dir, postgres)
	case "tern":
		return fmt.Sprintf("tern migrate --migrations %s --conn-string %s", dir, postgres)
	case "golang-migrate":
		return fmt.Sprintf("migrate -path %s -database %s up", dir, postgres)
	case "flyway":
		return fmt.Sprintf("flyway %s -locations=%s migrate", s.jdbc(), shellQuote("filesystem:"+filepath.Join(s.dir, s.migrations)))
	}
	return fmt.Sprintf("psql %s -v ON_ERROR_STOP=1 -1 -f %s", postgres, shellQuote(filepath.Join(s.dir, s.current)))
}

// jdbc gives flyway the database; a password comes from FLYWAY_PASSWORD.
func (s *repoSetup) jdbc() string {
	url := cmp.Or(os.Getenv(postgresVariable), string(s.existing.Postgres.URL), s.localPostgres())
	config, err := pgx.ParseConfig(url)
	if err != nil { // the relay says what is wrong with it
		return "-url=jdbc:postgresql://127.0.0.1:5432/" + s.name
	}
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	return fmt.Sprintf("%s %s", shellQuote("-url=jdbc:postgresql://"+address+"/"+config.Database), shellQuote("-user="+config.User))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// shellQuote makes one word of s for a shell.
func shellQuote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	quoted := "'"
	for _, r := range s {
		if r == '\'' {
			quoted += `'\''`
			continue
		}
		quoted += string(r)
	}
	return quoted + "'"
}
