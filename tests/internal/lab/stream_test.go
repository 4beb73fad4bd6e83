package lab_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// TestStream: what is done to a stream on its way is told.
func TestStream(t *testing.T) {
	const size = 64 << 10
	released := make(chan struct{}, 3)
	for range 3 {
		released <- struct{}{}
	}
	close(released)
	var sent bytes.Buffer
	if err := lab.NewStream("there", 7, size).Send(&sent, 3, released); err != nil || sent.Len() != size {
		t.Fatalf("sent %d bytes, %v; want %d", sent.Len(), err, size)
	}
	all := sent.Bytes()
	for name, row := range map[string]struct {
		came [][]byte
		want string // of the error; empty: none
	}{
		"as sent":   {came: [][]byte{all}},
		"lost":      {came: [][]byte{all[:1001], all[1101:]}, want: "byte 1001 of 65536 is wrong: 100 bytes were lost"},
		"doubled":   {came: [][]byte{all[:5000], all[4990:]}, want: "byte 5000 of 65536 is wrong: the last 10 bytes come again"},
		"reordered": {came: [][]byte{all[:100], all[200:300], all[100:200], all[300:]}, want: "byte 100 of 65536 is wrong: 100 bytes were lost or come later"},
		"changed":   {came: [][]byte{all[:100], make([]byte, 20), all[120:]}, want: "nowhere near"},
		"cut off":   {came: [][]byte{all[:100]}, want: "after 100 of 65536 bytes: EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := lab.NewStream("there", 7, size)
			err := s.Receive(bytes.NewReader(bytes.Join(row.came, nil)))
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if err == nil && s.Total() != size {
				t.Errorf("total is %d", s.Total())
			}
		})
	}
	// Of a reader that gives more at once than is missing.
	whole := io.MultiReader(bytes.NewReader(all[:size-8]), bytes.NewReader(append(bytes.Clone(all[size-8:]), 'x')))
	if err := lab.NewStream("there", 7, size).Receive(whole); err == nil || !strings.Contains(err.Error(), "1 bytes too many") {
		t.Errorf("a byte too many: %v", err)
	}
}
