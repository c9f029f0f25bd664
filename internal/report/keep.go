package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// keptForm is the form in which Pack writes. It changes when a newer program
// could not make sense of what an older one wrote.
const keptForm = 1

// A kept report is what Pack writes: everything but the rules, which a program
// has by itself, and the marks of functions, which are kept beside it.
type kept struct {
	Form   int
	Report *Report
}

// maxKept bounds what Unpack takes, in bytes of JSON: far more than any package
// needs, and little enough for one answer.
const maxKept = 512 << 20

var (
	packer, _   = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))                                     // fails for unknown options only
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxKept)) // likewise
)

// Pack writes a report down as it is, so that it can be shown in any format
// later; of texts that are no UTF-8 it keeps what JSON makes of them. The marks of its functions are a second part, as only a comparison
// needs them; it is nil if there are none.
func Pack(r *Report) (report, marks []byte, err error) {
	out := settled(r)
	out.Rules = nil
	all := make([]*inventory.Marks, len(out.Binaries))
	for i, b := range out.Binaries {
		bare := *b
		all[i], bare.Marks = b.Marks, nil
		bare.Functions.Coverage = round(b.Functions.Coverage, 6) // which also makes a number of what is none
		bare.Sections = slices.Clone(b.Sections)
		for j := range bare.Sections {
			bare.Sections[j].Entropy = round(bare.Sections[j].Entropy, 6)
		}
		out.Binaries[i] = &bare
	}
	if report, err = pack(kept{keptForm, out}); err != nil || !slices.ContainsFunc(all, func(m *inventory.Marks) bool { return m != nil }) {
		return report, nil, err
	}
	marks, err = pack(all)
	return report, marks, err
}

// Unpack reads what Pack wrote. Without marks, functions are not compared.
func Unpack(report, marks []byte) (*Report, error) {
	k := kept{}
	if err := unpack(report, &k); err != nil {
		return nil, err
	}
	if k.Form != keptForm || k.Report == nil {
		return nil, fmt.Errorf("report: kept in form %d, and not in %d", k.Form, keptForm)
	}
	if marks == nil {
		return k.Report, nil
	}
	var all []*inventory.Marks
	if err := unpack(marks, &all); err != nil {
		return nil, err
	}
	if len(all) != len(k.Report.Binaries) {
		return nil, errors.New("report: marks of other binaries")
	}
	for i, b := range k.Report.Binaries {
		b.Marks = all[i]
	}
	return k.Report, nil
}

func pack(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return packer.EncodeAll(data, nil), nil
}

func unpack(data []byte, v any) error {
	plain, err := unpacker.DecodeAll(data, nil)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
