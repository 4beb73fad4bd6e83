package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/configs/profiles"
)

// bridgePolicy turns what the configuration says of devices into the bridge's
// words. It reads devices.profiles_dir.
func bridgePolicy(config configs.Config) (rule.Policy, error) {
	known, err := loadProfiles(config)
	if err != nil {
		return rule.Policy{}, err
	}
	rules, err := bridgeRules(config, known)
	if err != nil {
		return rule.Policy{}, err
	}
	return rule.Policy{
		Rules: rules, Profiles: known, Labels: config.Node.Labels,
		Publish: map[string]rule.Publish{
			"known": rule.PublishKnown, "all": rule.PublishAll, "listed": rule.PublishListed,
		}[config.Devices.Publish],
	}, nil
}

// bridgeRules turns the rules of the configuration into those of the bridge.
func bridgeRules(config configs.Config, known []profile.Profile) ([]rule.Rule, error) {
	var all []rule.Rule
	for i, r := range config.Devices.Rules {
		result, err := bridgeRule(config, r, known)
		if err == nil {
			err = result.Check()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", config.Place(fmt.Sprintf("devices.rules[%d]", i)), err)
		}
		all = append(all, result)
	}
	return all, nil
}

func bridgeRule(config configs.Config, r configs.Rule, known []profile.Profile) (rule.Rule, error) {
	levels := map[string]line.Drive{"": line.DriveUnchanged, "on": line.DriveOn, "off": line.DriveOff}
	result := rule.Rule{
		Match: rule.Match{
			VID: r.Match.VID, PID: r.Match.PID, Serial: r.Match.Serial, Interface: r.Match.Interface,
			Port: r.Match.Port, Path: r.Match.Path,
		},
		Name: r.Name, Kind: r.Kind, Profile: r.Profile, DTR: levels[r.DTR], RTS: levels[r.RTS],
		Busy: map[string]rule.Busy{
			"kick": rule.BusyKick, "refuse": rule.BusyRefuse, "wait": rule.BusyWait, "share": rule.BusyShare,
		}[r.Busy],
		Hold: r.Hold, MaxStale: time.Duration(r.MaxStale),
		RS485: line.RS485{
			On: r.RS485.On, RTSOnSend: levels[r.RS485.RTSOnSend], RTSAfterSend: levels[r.RS485.RTSAfterSend],
			BeforeSend: r.RS485.BeforeSend, AfterSend: r.RS485.AfterSend,
			ReceiveDuringSend: r.RS485.ReceiveDuringSend, Terminate: r.RS485.Terminate,
		},
	}
	var err error
	if r.Line != "" {
		if result.Line, err = line.Parse(r.Line); err != nil {
			return result, fmt.Errorf("line: %w", err)
		}
	}
	if r.Profile != "" && r.Profile != rule.ProfileNone &&
		!slices.ContainsFunc(known, func(p profile.Profile) bool { return p.Name == r.Profile }) {
		return result, fmt.Errorf("profile: %q is not known; write %q for none, one of devices.profiles_dir, or one of: %s", r.Profile, rule.ProfileNone, profileNames(known))
	}
	if result.Allow, err = config.Cluster.Members(r.Allow); err != nil {
		return result, fmt.Errorf("allow: %w", err)
	}
	if result.AllowRead, err = config.Cluster.Members(r.AllowRead); err != nil {
		return result, fmt.Errorf("allow_read: %w", err)
	}
	return result, nil
}

func profileNames(all []profile.Profile) string {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// maxProfileFile bounds a file of devices.profiles_dir, in bytes.
const maxProfileFile = 1 << 20

// loadProfiles returns the profiles that come along under those of
// devices.profiles_dir. The error names every mistake with file and line.
func loadProfiles(config configs.Config) ([]profile.Profile, error) {
	all, err := profiles.Embedded()
	if err != nil || config.Devices.ProfilesDir == "" {
		return all, err
	}
	entries, err := os.ReadDir(config.Devices.ProfilesDir)
	if err != nil {
		return nil, fmt.Errorf("%s: read profiles: %w", config.Place("devices.profiles_dir"), err)
	}
	var own []profile.Profile
	var wrong []error
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".yaml") || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		file := filepath.Join(config.Devices.ProfilesDir, entry.Name())
		info, err := os.Stat(file)
		if err == nil && info.Size() > maxProfileFile {
			err = fmt.Errorf("%s: longer than %d bytes", file, maxProfileFile)
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(file)
		}
		var some []profile.Profile
		if err == nil {
			some, err = profiles.Parse(file, data)
		}
		own, wrong = append(own, some...), append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	if err := profile.CheckSet(own); err != nil {
		return nil, fmt.Errorf("%s: %w", config.Place("devices.profiles_dir"), err)
	}
	return profile.Overlay(all, own), nil
}
