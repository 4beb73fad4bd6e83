package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedFile is a file or folder of the repository as a document names it.
var namedFile = regexp.MustCompile("`([a-z]\\w*/[\\w./-]+)`")

// TestArchDocuments: what the documents name is there. A file that moved takes
// its mention along.
func TestArchDocuments(t *testing.T) {
	for _, document := range []string{"ARCHITECTURE.md", "README.md"} {
		text, err := os.ReadFile(filepath.Join("..", document))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range gone("..", string(text)) {
			t.Errorf("%s names %s, which is not there", document, name)
		}
	}
}

// gone returns the files that a text names and that are not below root.
func gone(root, text string) (names []string) {
	for _, m := range namedFile.FindAllStringSubmatch(text, -1) {
		if below("bin", m[1]) {
			continue // made by make build
		}
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			names = append(names, m[1])
		}
	}
	return names
}

// TestArchMap: each package with a wire format is in the architecture's table
// with its golden bytes.
func TestArchMap(t *testing.T) {
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range golden {
		if !strings.Contains(string(text), "`"+name+"/"+file+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s/%s", name, file)
		}
	}
}

func TestArchDocumentsBite(t *testing.T) {
	if got := gone("..", "`mesh/mesh.go`, `mesh/internal/join`, `mesh/nothing.go`, `garage-zwave`, `bin/serialspan` and `chat/1`"); len(got) != 2 || got[0] != "mesh/nothing.go" || got[1] != "chat/1" {
		t.Errorf("not there are %q", got)
	}
}
