package access

import (
	"crypto/sha256"
	"fmt"
	"os"
)

// fileSet is a few files as they were when they were read.
type fileSet struct {
	paths  []string
	digest [digestSize]byte
}

// read reads a file into the set.
func (s *fileSet) read(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	s.paths = append(s.paths, path)
	s.digest = extend(s.digest, text, err)
	return text, err
}

// changed tells what the files are now, and whether that is something else than what was read.
func (s *fileSet) changed() (digest [digestSize]byte, differs bool) {
	for _, path := range s.paths {
		text, err := os.ReadFile(path)
		digest = extend(digest, text, err)
	}
	return digest, digest != s.digest
}

func extend(digest [digestSize]byte, text []byte, err error) [digestSize]byte {
	if err != nil {
		text = []byte("error: " + err.Error())
	}
	return sha256.Sum256(fmt.Appendf(digest[:], "%d:%s", len(text), text))
}
