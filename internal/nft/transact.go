package nft

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

const (
	// patience bounds how long a transaction starts over because rules change
	// all the time. 100 processes that change rules at once need a tenth of it.
	patience = time.Second
	// verifyTries bounds how often a transaction then looks whether it is done.
	verifyTries = 8
)

// ErrChanging reports that other programs changed rules during all attempts of
// a transaction.
var ErrChanging = errors.New("rules kept changing")

// Transact changes rules according to those that are there. fill asks, through c, and
// puts the changes into a batch. The batch is committed only if no rule of the
// namespace has changed since before fill was called; otherwise fill is called
// again, with an empty batch, and must ask for everything again. An error of
// fill counts only if no rule changed meanwhile. fill must leave the batch empty
// if nothing needs to be done.
//
// If another program changes rules without a break, the batch is committed
// nevertheless, and fill is called again until it finds nothing to do.
func (c *Conn) Transact(fill func(*Batch) error) error {
	for start := time.Now(); time.Since(start) < patience; {
		if err := c.attempt(fill); !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
	var err error
	for range verifyTries {
		var b Batch
		if err = fill(&b); err == nil {
			if b.Len() == 0 {
				return nil
			}
			err = c.Commit(&b)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanging, err)
	}
	return ErrChanging
}

// attempt is one attempt of a transaction: ERESTART if rules have changed.
func (c *Conn) attempt(fill func(*Batch) error) error {
	base, err := c.generation()
	if err != nil {
		return err
	}
	b := Batch{base: base}
	if err := fill(&b); err != nil {
		if now, gerr := c.generation(); gerr == nil && now != base {
			return unix.ERESTART
		}
		return err
	}
	return c.Commit(&b)
}

// Commit sends a batch as one datagram. The error is that of the first
// operation that was refused, which it names; errors.Is finds the kernel's
// errno, and [ErrUnsupported] where the kernel lacks what the operation needs.
// Nothing has been done then. A refused batch costs some 15 ms (the kernel
// waits for all CPUs), so what may exist is better asked for with [Conn.Has].
func (c *Conn) Commit(b *Batch) error {
	if b.err != nil || len(b.ops) == 0 {
		return b.err
	}
	sent, err := c.nl.Send(b.messages())
	if err == nil {
		_, err = c.nl.Receive()
	}
	if err == nil {
		return nil
	}
	if op := nl.Refused(err); op != nil {
		if i := int(op.Sequence - sent[0].Header.Sequence); i > 0 && i <= len(b.ops) {
			return b.ops[i-1].refused(err)
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // nfnetlink has no nf_tables
		return unsupported("CONFIG_NF_TABLES", err)
	}
	return fmt.Errorf("nf_tables batch: %w", err)
}
