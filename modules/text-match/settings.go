package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"

	"sanderling"
)

// pattern is one kind of line.
type pattern struct {
	name    string
	match   *regexp.Regexp
	numbers map[string]bool
}

// settings are what the deployment says in config.
type settings struct {
	patterns  []pattern
	unmatched bool
}

// raw is the config key by key.
type raw struct {
	Patterns []struct {
		Name    string   `json:"name"`
		Match   string   `json:"match"`
		Numbers []string `json:"numbers"`
	} `json:"patterns"`
	Unmatched bool `json:"unmatched"`
}

// reserved are the keys of a record that no group may have.
var reserved = map[string]bool{"seq": true, "sensor": true, "pattern": true, "line": true}

func read(text []byte) (settings, error) {
	var config raw
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return settings{}, refuse("%v", err)
	}
	if len(config.Patterns) == 0 {
		return settings{}, refuse("it has no patterns; give at least {\"patterns\": [{\"name\": …, \"match\": …}]}")
	}
	read := settings{unmatched: config.Unmatched}
	for _, entry := range config.Patterns {
		match, err := regexp.Compile(entry.Match)
		if err != nil {
			return settings{}, refuse("pattern %q: %v", entry.Name, err)
		}
		numbers := map[string]bool{}
		for _, name := range entry.Numbers {
			if match.SubexpIndex(name) < 0 {
				return settings{}, refuse("pattern %q has no group (?P<%s>…), which numbers names", entry.Name, name)
			}
			numbers[name] = true
		}
		for _, name := range match.SubexpNames() {
			if reserved[name] {
				return settings{}, refuse("pattern %q: a group may not be called %s, as a record has that key", entry.Name, name)
			}
		}
		read.patterns = append(read.patterns, pattern{entry.Name, match, numbers})
	}
	return read, nil
}

func refuse(format string, values ...any) error {
	return fmt.Errorf("%w: %s", sanderling.ErrConfig, fmt.Sprintf(format, values...))
}
