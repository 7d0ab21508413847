package demo

import (
	"strings"
	"testing"
)

func TestKeyboard_ReadsWordsFromWhatIsNoTerminal(t *testing.T) {
	t.Parallel()
	var got []string
	k := openKeyboard(strings.NewReader("# a comment\n\n  Kill   RELAY \nquit"))
	defer k.close()
	k.read(func(command string) { got = append(got, command) })
	if text := strings.Join(got, "|"); text != "kill relay|quit" {
		t.Errorf("commands are %q", text)
	}
}

func TestKeyboard_ReadsKeysAndPassesOverOthers(t *testing.T) {
	t.Parallel()
	var got []string
	k := &keyboard{in: strings.NewReader("kü \x1b[Aq"), keys: true}
	k.read(func(command string) { got = append(got, command) })
	if text := strings.Join(got, "|"); text != "kill relay|orders|quit" {
		t.Errorf("commands are %q", text)
	}
}

func TestCommands_AreToldApart(t *testing.T) {
	t.Parallel()
	keys, names := map[rune]bool{}, map[string]bool{}
	for _, c := range commands {
		if c.key != 0 && keys[c.key] || names[c.word+c.name] || c.word+c.name == "" {
			t.Errorf("key %q or name %q is there twice, or empty", c.key, c.word+c.name)
		}
		keys[c.key], names[c.word+c.name] = true, true
	}
}
