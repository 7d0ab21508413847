// Package access decides who may do what with a schema registry, and keeps its server from
// harm: authentication, rights, limits, TLS.
//
// A Guard stands before the registry's own handler. A request reaches that handler only if
// its path is one that the guard knows, its sender is known, and a right allows the action
// on the subject; what is passed on is the path that was judged, written anew. Lists are
// cut down to what the sender may read. Who is known and what they may do is one file, a
// Policy, which a Keeper reads again when it changes:
//
//	keeper, err := access.OpenKeeper("access.yaml", logger)
//	if err != nil {
//		return err
//	}
//	guard := access.NewGuard(registryHandler, access.GuardConfig{Keeper: keeper, Logger: logger})
//	watcher := access.NewWatcher(access.WatcherConfig{Logger: logger}, keeper)
//	go watcher.Run(ctx)
//	return http.ListenAndServe("127.0.0.1:8081", guard)
//
// The guard knows the registry's API by one table (see route.go). A path that is not in it
// is not found, so that a new path of the API is closed until somebody decides who may use it.
package access
