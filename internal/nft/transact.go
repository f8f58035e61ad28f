package nft

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
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

// Transact changes rules according to what is there. fill asks, through c, and
// puts the changes into a batch. The batch is committed only if no rule of the
// namespace has changed since before fill was called; otherwise fill is called
// again, with an empty batch, and must ask for everything again. An error of
// fill counts only if no rule changed meanwhile. fill must leave the batch empty
// if nothing needs to be done.
//
// If another program changes rules without a break, the batch is committed
// nevertheless, and fill is called again until it finds nothing to do.
func (c *Conn) Transact(fill func(*Batch) error) error {
	for start := time.Now(); ; {
		err := c.attempt(fill)
		if !errors.Is(err, unix.ERESTART) {
			return err
		}
		if time.Since(start) > patience {
			return c.converge(fill)
		}
	}
}

// attempt is one attempt of a transaction: ERESTART if rules have changed.
func (c *Conn) attempt(fill func(*Batch) error) error {
	var b Batch
	var err error
	if b.base, err = c.generation(); err != nil {
		return err
	}
	if err := fill(&b); err != nil {
		if now, gerr := c.generation(); gerr == nil && now != b.base {
			return unix.ERESTART
		}
		return err
	}
	return c.Commit(&b)
}

func (c *Conn) converge(fill func(*Batch) error) error {
	var err error
	for range verifyTries {
		var b Batch
		if err = fill(&b); err == nil && len(b.ops) == 0 {
			return nil
		}
		if err == nil {
			err = c.Commit(&b)
		}
	}
	if err == nil {
		return ErrChanging
	}
	return fmt.Errorf("%w: %w", ErrChanging, err)
}

// generation returns the number of the ruleset's last change (NFTA_GEN_ID), or 0
// if the kernel does not report it.
func (c *Conn) generation() (id uint32, err error) {
	answers, err := c.ask(getGeneration(), c.get)
	for _, m := range answers {
		_, err = decodeMessage(m, func(c *codec) { id = number(c, unix.NFTA_GEN_ID, id) })
	}
	if err != nil {
		return 0, fmt.Errorf("generation of the ruleset: %w", err)
	}
	return id, nil
}
