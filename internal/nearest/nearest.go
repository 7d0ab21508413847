// Package nearest finds the name that somebody meant who wrote another: a key of a
// configuration, an environment variable, a flag, a command.
package nearest

import "strings"

// Of returns the one of known that is nearest to word, by the number of letters to change, add
// or leave out, letter case aside. It returns "" where none is near: where more than a third of
// the word would have to change. Of several that are as near, the first wins.
func Of(word string, known []string) string {
	best, least := "", max(1, len([]rune(word))/3)+1
	for _, candidate := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two words.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	row := make([]int, len(to)+1) // of the first i letters of a to the first j of b
	for j := range row {
		row[j] = j
	}
	for i, x := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range to {
			changed := diagonal
			if x != y {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, diagonal+1)
		}
	}
	return row[len(to)]
}
