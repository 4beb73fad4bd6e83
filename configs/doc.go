// Package configs is the configuration of an agent: the schema of
// serialspan.yaml as Go structs, its defaults, and a strict loader.
//
// Strength, weakest first: defaults, the file, the environment, flags
// (Setting). Every key can be set by a variable named after it: node.state_dir
// is SERIALSPAN_NODE_STATE_DIR. Lists of words take a comma between them or
// YAML, lists of mappings take YAML (mappings such as labels are laid over those
// of the file one by one, all else is replaced):
//
//	SERIALSPAN_CLUSTER_JOIN=cloud.example.net:51821,10.0.0.7
//	SERIALSPAN_ATTACHMENTS='[{device: garage-zwave, tcp: "127.0.0.1:6639"}]'
//
// Other variables that begin with SERIALSPAN_ are left alone, since Kubernetes
// makes some up (SERIALSPAN_SERVICE_HOST for a service of that name).
//
// The loader refuses what it does not know. A wrong file gives one error per
// mistake, all at once, each with file, line, key and what to write instead
// (Problem). Scalars are read as they are written: vid: 0658 is the text 0658
// and no number, mode: 0660 is octal.
//
// REFERENCE.md lists all keys; a test makes it from the structs and their
// comments, and fails when it is not current.
//
// The package is values: it opens no socket or device, starts no goroutine and
// does not watch the file. Only cmd/serialspan imports it; the libraries have
// Config structs of their own.
package configs
