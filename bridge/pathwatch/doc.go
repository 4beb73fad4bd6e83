// Package pathwatch tells when what stands at a path may have changed: a tty that
// a rule names by its path, the configuration file.
//
// A path is more than its last name. It may lead through symbolic links, which
// udev sets (/dev/serial/by-id) and Kubernetes swaps (a ConfigMap's ..data), and
// through directories that are not there yet. So the directory of each step is
// watched by inotify(7) for the names that the kernel looks up in it, a file whose
// contents matter for what is written to it, and after each change the path is
// followed anew. A mount over one of the directories is not told by inotify: look
// yourself now and then.
//
// # Goroutines
//
// Watch blocks on its caller's goroutine. The end of its context closes the
// instance on a goroutine of the context's (context.AfterFunc).
package pathwatch
