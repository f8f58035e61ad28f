// Package sha256 is SHA-256 of FIPS 180-4, for names and marks that must stay
// the same from one release to the next. Nothing here is secret. The standard
// library's package brings the FIPS 140 module with it: 160 kB of ciphers and
// random numbers, and 32 MB of memory.
package sha256

import (
	"encoding/binary"
	"math/bits"
)

// blockSize is the length of a block of the message, in bytes.
const blockSize = 64

// constants are those of section 4.2.2: the first 32 bits of the fractional
// parts of the cube roots of the first 64 primes.
var constants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// Sum returns the hash of a message.
func Sum(message string) (hash [32]byte) {
	state := [8]uint32{ // section 5.3.3
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	}
	padded := append([]byte(message), 0x80) // section 5.1.1
	for len(padded)%blockSize != blockSize-8 {
		padded = append(padded, 0)
	}
	padded = binary.BigEndian.AppendUint64(padded, uint64(len(message))*8)
	for ; len(padded) > 0; padded = padded[blockSize:] {
		compress(&state, padded[:blockSize])
	}
	for i, word := range state {
		binary.BigEndian.PutUint32(hash[4*i:], word)
	}
	return hash
}

// compress takes one block into the state (section 6.2.2).
func compress(state *[8]uint32, block []byte) {
	var w [64]uint32 // the message schedule
	for t := range 16 {
		w[t] = binary.BigEndian.Uint32(block[4*t:])
	}
	for t := 16; t < len(w); t++ {
		x, y := w[t-15], w[t-2]
		sigma0 := bits.RotateLeft32(x, -7) ^ bits.RotateLeft32(x, -18) ^ x>>3
		sigma1 := bits.RotateLeft32(y, -17) ^ bits.RotateLeft32(y, -19) ^ y>>10
		w[t] = sigma1 + w[t-7] + sigma0 + w[t-16]
	}
	v := *state // the working variables a to h
	for t := range w {
		a, b, c, d, e, f, g, h := v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
		sum0 := bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22)
		sum1 := bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25)
		t1 := h + sum1 + (e&f ^ ^e&g) + constants[t] + w[t]
		t2 := sum0 + (a&b ^ a&c ^ b&c)
		v = [8]uint32{t1 + t2, a, b, c, d + t1, e, f, g}
	}
	for i := range state {
		state[i] += v[i]
	}
}
