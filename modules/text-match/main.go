//go:build wasip1

// text-match makes records of lines of text, as scales, meters, scanners and logs write them.
//
// What comes in are frames of any content, cut anywhere: lines end with a line feed, and what is begun in one frame goes on in the next of the
// same sensor. A line is held to the patterns in their order; the first that matches makes a record on the channel matches: {"seq", "sensor",
// "pattern", and each named group}. A group that numbers names is a number, or null where it is none. With unmatched, lines that nothing matches
// are reported too, as {"seq", "sensor", "line"}. Regular expressions are those of Go, whose time grows with the line and never faster.
//
// Config: {"patterns": [{"name": "weight", "match": "^(?P<scale>\\w+) +(?P<kg>-?[0-9.]+) kg", "numbers": ["kg"]}], "unmatched": false}.
package main

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sanderling"
)

// Of a line that has no end, so much is kept; the rest up to its end is left out.
const longestLine = 4096

// textMatch is the guest.
type textMatch struct {
	settings settings
	// What is begun of a line, by sensor.
	begun map[string]*line
	// The frame's content, in a place that is used again.
	content []byte
}

type line struct{ bytes []byte }

func init() { sanderling.Export(&textMatch{begun: map[string]*line{}}) }
func main() {}

// Start reads the configuration.
func (guest *textMatch) Start() (err error) {
	guest.settings, err = read(sanderling.ConfigText())
	return err
}

// Frame looks at the lines that end in a frame.
func (guest *textMatch) Frame(header *sanderling.FrameHeader) error {
	guest.content = slices.Grow(guest.content[:0], int(header.Len))[:header.Len]
	read, err := sanderling.Read(0, guest.content)
	if err != nil {
		return err
	}
	content := guest.content[:read]
	sensor := header.Sensor()
	begun := guest.begun[sensor]
	if begun == nil {
		begun = &line{}
		guest.begun[sensor] = begun
	}
	for {
		part, rest, ended := bytes.Cut(content, []byte{'\n'})
		begun.add(part)
		if !ended {
			return nil
		}
		if err := guest.look(header, sensor, begun.text()); err != nil {
			return err
		}
		begun.bytes = begun.bytes[:0]
		content = rest
	}
}

func (begun *line) add(part []byte) {
	room := longestLine - len(begun.bytes)
	begun.bytes = append(begun.bytes, part[:min(len(part), room)]...)
}

func (begun *line) text() string {
	text := string(bytes.TrimSuffix(begun.bytes, []byte{'\r'}))
	if utf8.ValidString(text) {
		return text
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func (guest *textMatch) look(header *sanderling.FrameHeader, sensor, text string) error {
	for i := range guest.settings.patterns {
		pattern := &guest.settings.patterns[i]
		if groups := pattern.match.FindStringSubmatch(text); groups != nil {
			record := pattern.record(groups)
			record["seq"], record["sensor"], record["pattern"] = header.Seq, sensor, pattern.name
			return emit(record)
		}
	}
	if guest.settings.unmatched && text != "" {
		return emit(map[string]any{"seq": header.Seq, "sensor": sensor, "line": text})
	}
	return nil
}

func (pattern *pattern) record(groups []string) map[string]any {
	record := map[string]any{}
	for index, name := range pattern.match.SubexpNames() {
		switch {
		case name == "":
		case pattern.numbers[name]:
			record[name] = number(groups[index])
		default:
			record[name] = groups[index]
		}
	}
	return record
}

// number is a text as a number; nil, which is null, where it is none.
func number(text string) any {
	value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsInf(value, 0) || math.IsNaN(value) {
		return nil
	}
	return value
}

// emit queues a record; what is above the rate is lost, and counted by the host.
func emit(record map[string]any) error {
	err := sanderling.EmitJSON("matches", record)
	if errors.Is(err, sanderling.EAGAIN) {
		return nil
	}
	return err
}
