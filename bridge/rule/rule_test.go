package rule_test

import (
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rule"
)

func TestRuleCheck(t *testing.T) {
	path := rule.Match{Path: "/dev/ttyS0"}
	tests := []struct {
		name string
		rule rule.Rule
		ok   bool
	}{
		{"path", rule.Rule{Match: path}, true},
		{"no match", rule.Rule{Name: "x"}, false},
		{"name that does not parse", rule.Rule{Match: path, Name: "{{.Node"}, false},
		{"name of unknown fields", rule.Rule{Match: path, Name: "{{.Serial}}"}, false},
		{"line settings", rule.Rule{Match: path, Line: line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityEven}}, true},
		{"RS-485 delay", rule.Rule{Match: path, RS485: line.RS485{On: true, BeforeSend: time.Millisecond}}, true},
		{"RS-485 delay too long", rule.Rule{Match: path, RS485: line.RS485{On: true, AfterSend: time.Second}}, false},
		{"RS-485 delay too fine", rule.Rule{Match: path, RS485: line.RS485{On: true, AfterSend: time.Microsecond}}, false},
		{"half line settings", rule.Rule{Match: path, Line: line.Settings{Baud: 9600}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.rule.Check(); (err == nil) != test.ok {
				t.Fatal(err)
			}
		})
	}
}
