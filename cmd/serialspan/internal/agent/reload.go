package agent

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/pathwatch"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/configs"
)

const (
	// settle is how long a changed file must be left alone before it is read:
	// editors write in several steps.
	settle = 100 * time.Millisecond
	// retryPause is how often is tried again what a full disk or a taken place
	// stood against.
	retryPause = 10 * time.Second
	// lookPause is how often the file is read where it cannot be watched.
	lookPause = 3 * time.Second
)

// liveKeys take effect without a restart.
var liveKeys = []string{"node.labels", "cluster.nodes", "cluster.admins", "devices.publish", "devices.profiles_dir", "devices.rules", "attachments"}

// settings are the configuration in force and what is to be said of the file.
type settings struct {
	mu      sync.Mutex
	config  configs.Config // in force
	policy  rule.Policy    // made of it and of devices.profiles_dir
	wrong   error          // of the file as it is now; nil: it is in force
	restart []string       // keys that want a restart
}

// current returns the configuration in force.
func (s *settings) current() configs.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// problems says what is wrong with the file as it is now.
func (s *settings) problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	if s.wrong != nil {
		for line := range strings.SplitSeq(s.wrong.Error(), "\n") {
			all = append(all, line+" (the configuration from before stays in force)")
		}
	}
	for _, key := range s.restart {
		all = append(all, s.config.Place(key)+": changed; restart the agent for it")
	}
	return all
}

// maintain follows the configuration file, and tries again what could not be
// done, until ctx is done. It owns the goroutine that waits for the file.
func (a *Agent) maintain(ctx context.Context) {
	changed := make(chan struct{}, 1)
	watched := a.options.Reload != nil && a.options.Config.File != ""
	if watched {
		var waiter sync.WaitGroup
		defer waiter.Wait()
		waiter.Go(func() { a.watchFile(ctx, changed) })
	}
	quiet := time.NewTimer(settle) // the file may have changed since it was read
	defer quiet.Stop()
	retry := time.NewTicker(retryPause)
	defer retry.Stop()
	members, stopMembers := a.mesh.Watch()
	defer stopMembers()
	devices, stopDevices := a.registry.Watch()
	defer stopDevices()
	for {
		select {
		case <-ctx.Done():
			return
		case <-members:
			a.changes.tell()
		case <-devices:
			a.tellMoved()
			a.changes.tell()
		case <-changed:
			quiet.Reset(settle)
		case <-quiet.C:
			if watched {
				a.reload()
				a.changes.tell()
			}
		case <-retry.C:
			a.claims.retry()
			a.secretFile.retry()
			a.wanted.retry()
		}
	}
}

// watchFile tells when the configuration file may have changed, until ctx is done;
// where it cannot be watched, every now and then.
func (a *Agent) watchFile(ctx context.Context, changed chan<- struct{}) {
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	file, told := a.options.Config.File, ""
	for {
		err := pathwatch.Watch(ctx, pathwatch.Contents, tell, file)
		if err == nil {
			return
		}
		if err.Error() != told {
			told = err.Error()
			a.log.Warn("configuration file cannot be watched, it is read now and then", "path", file, "err", err)
		}
		tell()
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the configuration again and takes over what it can.
func (a *Agent) reload() {
	config, err := a.options.Reload()
	s := &a.settings
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.wrong == nil || s.wrong.Error() != err.Error() {
			a.log.Error("configuration is wrong, the one from before stays in force", "err", err)
		}
		s.wrong = err
		return
	}
	policy, err := bridgePolicy(config)
	if err == nil {
		err = a.admission.set(config.Cluster)
	}
	if err != nil {
		s.wrong = err
		a.log.Error("configuration is wrong, the one from before stays in force", "err", err)
		return
	}
	a.mesh.Reconsider()
	mended := s.wrong != nil
	s.wrong = nil
	changes := s.config.Differences(config)
	s.config = config
	a.wanted.setFile(config.Attachments, config.Place) // also where only lines moved
	if !reflect.DeepEqual(s.policy, policy) {
		if s.policy = policy; len(changes) == 0 {
			a.log.Info("profiles changed", "path", config.Devices.ProfilesDir)
		}
		a.publisher.Update(policy)
	}
	if len(changes) == 0 {
		if mended {
			a.log.Info("configuration is right again", "path", config.File)
		}
		return
	}
	if a.options.Level != nil && slices.Contains(changes, "log.level") {
		var level slog.Level
		if err := level.UnmarshalText([]byte(config.Log.Level)); err == nil {
			a.options.Level.Set(level)
		}
	}
	s.restart = nil
	for _, key := range a.options.Config.Differences(config) {
		live := slices.Contains(liveKeys, key) || key == "log.level" && a.options.Level != nil ||
			key == "cluster.admission" && config.Cluster.Admission == "secret" ||
			key == "cluster.allow" && containsAll(config.Cluster.Allow, a.options.Config.Cluster.Allow)
		if !live {
			s.restart = append(s.restart, key)
		}
	}
	a.log.Info("configuration changed", "path", config.File)
	if len(s.restart) > 0 {
		a.log.Warn("configuration changed where it takes a restart of the agent: "+strings.Join(s.restart, ", "), "path", config.File)
	}
}

// containsAll reports whether list has all of words: an allow list that only
// grew needs no restart.
func containsAll(list, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(list, word) })
}
