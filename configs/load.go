package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/serialspan/serialspan/bridge/client"
)

const (
	// FileName is what a configuration file is called.
	FileName = "serialspan.yaml"
	// SecretFileName is what the cluster secret beside it is called.
	SecretFileName = "cluster.secret"
	// FileVariable names the file in the environment.
	FileVariable = "SERIALSPAN_CONFIG"

	systemDir = "/etc/serialspan"
	// maxFile bounds what is read of a configuration, in bytes.
	maxFile = 1 << 20
)

// ErrNoConfig is wrapped by the error of Find and Load where there is no
// configuration file.
var ErrNoConfig = errors.New("no configuration")

// Find returns the configuration file to use: path if it is not empty, else
// what $SERIALSPAN_CONFIG names, else the first that exists of
// ./serialspan.yaml, DefaultDir()/serialspan.yaml and
// /etc/serialspan/serialspan.yaml. A ./serialspan.yaml of another user is
// refused, since whoever can write to the current directory could put it there.
func Find(path string) (string, error) {
	if path == "" {
		path = os.Getenv(FileVariable)
	}
	if path != "" {
		return path, nil
	}
	candidates := []string{FileName, filepath.Join(DefaultDir(), FileName)}
	if DefaultDir() != systemDir {
		candidates = append(candidates, filepath.Join(systemDir, FileName))
	}
	for i, candidate := range candidates {
		info, err := os.Stat(candidate)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && i > 0 {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find configuration: %w", err)
		}
		if i == 0 && !trusted(info) {
			return "", fmt.Errorf("find configuration: ./%s belongs to another user; name it with --config if it is meant", FileName)
		}
		return candidate, nil
	}
	return "", fmt.Errorf("find configuration: %w at %s; make one with \"serialspan init\" or \"serialspan join HOST\", or name one with --config",
		ErrNoConfig, strings.Join(candidates, ", "))
}

// Setting is a value that is stronger than file and environment, from a flag.
type Setting struct {
	Source string // "flag --socket", for problems
	Key    string // "control.socket"
	Value  string // as in the environment
}

// Load reads the configuration from the file that Find names, from the
// environment, and from settings. Without a file the environment is enough if
// it says SERIALSPAN_CLUSTER_SECRET_FILE. The error holds every Problem.
func Load(path string, settings ...Setting) (Config, error) {
	file, err := Find(path)
	if errors.Is(err, ErrNoConfig) && os.Getenv("SERIALSPAN_CLUSTER_SECRET_FILE") != "" {
		return merge(nil, "", settings)
	}
	if err != nil {
		return Config{}, err
	}
	file, err = filepath.Abs(file)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	data, err := readBounded(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("read configuration %q: %w; make one with \"serialspan init\" or \"serialspan join HOST\"", file, ErrNoConfig)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return merge(data, file, settings)
}

// SocketIn returns control.socket as written in the file that Find names or in
// the environment, "" if neither says it. It overlooks everything else, so
// that commands can still ask the agent about a file that became wrong.
func SocketIn(path string) string {
	file, err := Find(path)
	if socket := os.Getenv(client.SocketVariable); socket != "" {
		if err != nil {
			return under(DefaultDir(), socket)
		}
		return under(filepath.Dir(file), socket)
	}
	if err != nil {
		return ""
	}
	data, err := readBounded(file)
	if err != nil {
		return ""
	}
	var partial struct {
		Control struct {
			Socket string `yaml:"socket"`
		} `yaml:"control"`
	}
	if yaml.Unmarshal(data, &partial) != nil || partial.Control.Socket == "" {
		return ""
	}
	return under(filepath.Dir(file), partial.Control.Socket)
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: longer than %d bytes", file, maxFile)
	}
	return data, err
}

// merge lays the file over the defaults and the environment over both.
func merge(data []byte, file string, settings []Setting) (Config, error) {
	where := newPlaces()
	where.at[""] = place{source: file}
	// "::" cannot occur in a key, labels such as app.kubernetes.io/name have dots.
	v := viper.NewWithOptions(viper.KeyDelimiter("::"))
	for _, l := range leaves(Default()) {
		// A default that is a map would be a leaf to viper, and hide the keys below.
		if !l.value.IsZero() && l.field.Type.Kind() != reflect.Map {
			v.SetDefault(viperKey(l.key), l.value.Interface())
		}
	}
	root, err := parse(data, file)
	if err != nil {
		return Config{}, err
	}
	if root != nil {
		w := &walker{places: where, source: file}
		if values, ok := w.value(root, reflect.TypeFor[Config](), "", "").(map[string]any); ok {
			if err := v.MergeConfigMap(values); err != nil {
				return Config{}, fmt.Errorf("read configuration %q: %w", file, err)
			}
		}
	}
	for _, l := range leaves(Config{}) {
		if text := os.Getenv(l.variable()); text != "" {
			if value := fromText(where, l, "environment "+l.variable(), text); value != nil {
				v.Set(viperKey(l.key), value)
			}
		}
	}
	for _, s := range settings {
		l, ok := leafOf(where, s)
		if !ok {
			continue
		}
		if value := fromText(where, l, s.Source, s.Value); value != nil {
			v.Set(viperKey(l.key), value)
		}
	}
	var config Config
	if err := v.UnmarshalExact(&config, viper.DecodeHook(mapstructure.TextUnmarshallerHookFunc())); err != nil {
		return Config{}, fmt.Errorf("read configuration %q: %w", file, err)
	}
	config.File = file
	config.At = where.texts()
	config.fill()
	config.check(where)
	if err := where.err(); err != nil {
		return Config{}, err
	}
	return config, nil
}

func viperKey(key string) string { return strings.ReplaceAll(key, ".", "::") }

// leafOf finds the key of a setting; if there is none, the problem is noted.
func leafOf(where *places, s Setting) (leaf, bool) {
	var known []string
	for _, l := range leaves(Config{}) {
		if l.key == s.Key {
			return l, true
		}
		known = append(known, l.key)
	}
	where.add(place{source: s.Source}, s.Key, "unknown key; %s", suggestion(s.Key, known))
	return leaf{}, false
}

// fromText reads the text of a variable or flag as the value of a leaf.
func fromText(where *places, l leaf, source, text string) any {
	w := &walker{places: where, source: source}
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	isList := l.field.Type.Kind() == reflect.Slice
	switch {
	case isList && !strings.HasPrefix(strings.TrimSpace(text), "[") && !strings.HasPrefix(strings.TrimSpace(text), "-"):
		node = &yaml.Node{Kind: yaml.SequenceNode}
		for word := range strings.SplitSeq(text, ",") {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(word)})
		}
	case isList || l.field.Type.Kind() == reflect.Map:
		parsed, err := parse([]byte(text), w.source)
		if err != nil || parsed == nil {
			where.add(place{source: w.source}, l.key, "not valid YAML; write it in one line: [ … ] or { … }")
			return nil
		}
		node = parsed
	}
	return w.value(node, l.field.Type, l.key, l.field.Tag.Get("oneof"))
}

// yamlLine is how the YAML library says where it stopped.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

// parse reads at most one YAML document; nil if there is none.
func parse(data []byte, source string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		var second yaml.Node
		if err = decoder.Decode(&second); errors.Is(err, io.EOF) {
			return document.Content[0], nil
		}
		if err == nil {
			return nil, &Problem{Source: source, Line: second.Line, Text: "a second document begins here; keep one"}
		}
	}
	problem := &Problem{Source: source, Text: "not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		problem.Line, _ = strconv.Atoi(m[1])
		problem.Text = "not valid YAML: " + m[2]
	}
	return nil, problem
}
