package bridge

import (
	"reflect"
	"slices"
	"testing"
)

// TestConfigDefaults walks every field: a new one has a default or stands
// here, where its zero value is the default.
func TestConfigDefaults(t *testing.T) {
	zeroIsDefault := []string{"Rules", "Publish", "Profiles", "Labels", "PollInterval", "Files"}
	for _, config := range []any{PublisherConfig{}.withDefaults(), AttacherConfig{}.withDefaults()} {
		v := reflect.ValueOf(config)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Field(i).IsZero() != slices.Contains(zeroIsDefault, name) {
				t.Errorf("%T.%s: zero %v after defaults", config, name, v.Field(i).IsZero())
			}
		}
	}
}
