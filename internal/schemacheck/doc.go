// Package schemacheck compares a directory of Avro schemas with what was there before, in a
// git revision, a registry or another directory, and says of every problem where it stands
// in the file, who breaks and what would mend it.
//
//	report, err := schemacheck.Run(ctx, schemacheck.Options{Dir: "schemas", Against: "git:origin/main"})
//	var lost *schemacheck.UnreachableError
//	switch {
//	case errors.As(err, &lost): // git or the registry could not be asked
//	case err != nil:            // nothing could be checked: wrong options, no schema found
//	case report.Failed():       // see report.Problems
//	}
//
// The verdicts are those of package avroschema, and so those of the registry. What it does
// not see: how many of the readers in production are on which version.
package schemacheck
