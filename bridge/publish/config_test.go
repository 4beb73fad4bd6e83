package publish

import (
	"reflect"
	"slices"
	"testing"
)

// TestConfigDefaults walks every field: a new one has a default or stands here,
// where its zero value is the default.
func TestConfigDefaults(t *testing.T) {
	zeroIsDefault := []string{"Rules", "Publish", "Profiles", "Labels", "PollInterval"}
	v := reflect.ValueOf(Config{}.withDefaults())
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsZero() != slices.Contains(zeroIsDefault, name) {
			t.Errorf("%s: zero %v after defaults", name, v.Field(i).IsZero())
		}
	}
}
