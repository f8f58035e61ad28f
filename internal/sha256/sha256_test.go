package sha256

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// printf %s abc | sha256sum, and the other examples of FIPS 180-4 that NIST
// publishes.
func TestExamples(t *testing.T) {
	for message, want := range map[string]string{
		"":    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
	} {
		if got := fmt.Sprintf("%x", Sum(message)); got != want {
			t.Errorf("%q: %s, want %s", message, got, want)
		}
	}
}

// Messages of every length around the block's, and the padding's, ends.
func TestStandardLibraryAgrees(t *testing.T) {
	for n := range 4 * blockSize {
		message := strings.Repeat("flatnet/0123/eth0", n)[:n]
		if got, want := Sum(message), sha256.Sum256([]byte(message)); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add("abc")
	f.Fuzz(func(t *testing.T, message string) {
		if got, want := Sum(message), sha256.Sum256([]byte(message)); got != want {
			t.Errorf("%q: %x, want %x", message, got, want)
		}
	})
}
