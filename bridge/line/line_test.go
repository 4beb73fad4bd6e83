package line_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/line"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text string
		want line.Settings
		back string // canonical form when it differs from text
	}{
		{text: "115200n81", want: line.Settings{Baud: 115200, DataBits: 8}},
		{text: "9600e71", want: line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityEven}},
		{text: "9600O72", want: line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityOdd, StopBits: line.StopTwo}, back: "9600o72"},
		{text: "250000m81", want: line.Settings{Baud: 250000, DataBits: 8, Parity: line.ParityMark}},
		{text: "1200s61", want: line.Settings{Baud: 1200, DataBits: 6, Parity: line.ParitySpace}},
		{text: "50n51.5", want: line.Settings{Baud: 50, DataBits: 5, StopBits: line.StopOneAndHalf}},
		{text: "57600n81/rtscts", want: line.Settings{Baud: 57600, DataBits: 8, Flow: line.FlowRTSCTS}},
		{text: "57600N82/XONXOFF", want: line.Settings{Baud: 57600, DataBits: 8, StopBits: line.StopTwo, Flow: line.FlowXONXOFF}, back: "57600n82/xonxoff"},
		{text: "4294967295n81", want: line.Settings{Baud: 4294967295, DataBits: 8}},
	} {
		t.Run(tt.text, func(t *testing.T) {
			got, err := line.Parse(tt.text)
			if err != nil || got != tt.want {
				t.Fatalf("Parse(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
			}
			if tt.back == "" {
				tt.back = tt.text
			}
			if got.String() != tt.back {
				t.Fatalf("String() = %q, want %q", got, tt.back)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "n81", "115200", "115200n8", "0n81", "0115200n81", "4294967296n81", "99999999999999999999n81", "115200x81",
		"115200n41", "115200n91", "115200n83", "115200n811", "115200n81.5", "115200n52", "115200n81/", "115200n81/dtr",
		"115200n81/rtscts/xonxoff", " 115200n81", "115200n81 ", "-1n81", "115200 8n1", "+1n81", "invalid(1,2,3,4,5)",
	} {
		if got, err := line.Parse(text); !errors.Is(err, line.ErrSettings) {
			t.Errorf("Parse(%q) = %v, %v, want ErrSettings", text, got, err)
		}
	}
}

func TestSettingsInvalidPrintsUnparsable(t *testing.T) {
	for _, s := range []line.Settings{
		{Baud: 9600},
		{DataBits: 8},
		{Baud: 9600, DataBits: 8, Parity: 9},
		{Baud: 9600, DataBits: 8, StopBits: 9},
		{Baud: 9600, DataBits: 8, Flow: 9},
		{Baud: 9600, DataBits: 8, StopBits: line.StopOneAndHalf},
	} {
		if err := s.Check(); !errors.Is(err, line.ErrSettings) {
			t.Errorf("Check(%+v) = %v, want ErrSettings", s, err)
		}
		if _, err := line.Parse(s.String()); err == nil {
			t.Errorf("Parse(%q) of invalid settings works", s)
		}
		if _, err := s.MarshalText(); !errors.Is(err, line.ErrSettings) {
			t.Errorf("MarshalText(%+v) = %v, want ErrSettings", s, err)
		}
	}
}

func TestSettingsJSON(t *testing.T) {
	type holder struct {
		Line line.Settings
		None line.Settings
	}
	text, err := json.Marshal(holder{Line: line.Default()})
	if err != nil || string(text) != `{"Line":"115200n81","None":""}` {
		t.Fatalf("Marshal = %s, %v", text, err)
	}
	back := holder{None: line.Default()}
	if err := json.Unmarshal(text, &back); err != nil || back != (holder{Line: line.Default()}) {
		t.Fatalf("Unmarshal = %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"Line":"fast"}`), &back); !errors.Is(err, line.ErrSettings) {
		t.Fatalf("Unmarshal of nonsense = %v, want ErrSettings", err)
	}
}

func TestModemLines(t *testing.T) {
	for _, tt := range []struct {
		lines line.ModemLines
		want  string
	}{
		{0, "none"},
		{line.DTR, "dtr"},
		{line.ModemOutputs, "dtr+rts"},
		{line.DTR | line.CTS | line.RI, "dtr+cts+ri"},
		{line.RTS | line.DSR | line.DCD, "rts+dsr+dcd"},
	} {
		if got := tt.lines.String(); got != tt.want {
			t.Errorf("String(%#x) = %q, want %q", uint8(tt.lines), got, tt.want)
		}
	}
	if !(line.DTR | line.CTS).Has(line.DTR) || line.DTR.Has(line.ModemOutputs) {
		t.Error("Has is wrong")
	}
}

func TestParseDrive(t *testing.T) {
	for _, drive := range []line.Drive{line.DriveUnchanged, line.DriveOn, line.DriveOff} {
		if got, err := line.ParseDrive(drive.String()); err != nil || got != drive {
			t.Errorf("ParseDrive(%q) = %v, %v", drive, got, err)
		}
	}
	if got, err := line.ParseDrive(""); err != nil || got != line.DriveUnchanged {
		t.Errorf("ParseDrive of nothing = %v, %v", got, err)
	}
	for _, text := range []string{"On", "true", "invalid(7)"} {
		if _, err := line.ParseDrive(text); !errors.Is(err, line.ErrDrive) {
			t.Errorf("ParseDrive(%q) = %v, want ErrDrive", text, err)
		}
	}
	if got := line.Drive(7).String(); got != "invalid(7)" {
		t.Errorf("String of an unknown drive = %q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"115200n81", "9600e71/rtscts", "50o51.5/xonxoff", "1s82", "0n81", "n", "/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := line.Parse(text)
		if err != nil {
			if !errors.Is(err, line.ErrSettings) {
				t.Fatalf("Parse(%q) = %v, want ErrSettings", text, err)
			}
			return
		}
		if s.String() != strings.ToLower(text) {
			t.Fatalf("Parse(%q).String() = %q", text, s)
		}
		again, err := line.Parse(s.String())
		if err != nil || again != s {
			t.Fatalf("Parse(%q) = %+v, %v, want %+v", s, again, err, s)
		}
	})
}
