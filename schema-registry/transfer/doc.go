// Package transfer moves what a schema registry knows to another one, or to a file and back:
// all versions with their IDs, soft-deleted ones too, references, levels and other settings,
// modes, contexts. Both ends are asked by their API only, so that either may be a registry of
// another maker.
//
//	content, err := transfer.Read(ctx, source, nil)
//	if err != nil {
//		return err
//	}
//	report, err := transfer.Import(ctx, target, content, transfer.Options{})
//
// An import that was broken off is begun again; what is there already is not touched. What
// the target has beside it stays, and where it has something else in the same place the
// import changes nothing and says what.
package transfer
