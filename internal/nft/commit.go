package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
)

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
	if err != nil {
		return fmt.Errorf("nf_tables batch: %w", err)
	}
	begin, last := sent[0].Header.Sequence, sent[len(b.ops)].Header.Sequence
	var first error
	for {
		seq, err := c.receive()
		switch i := int(seq - begin); {
		case seq == begin && err != nil:
			// The batch as a whole was refused, and whether the last
			// operation's acknowledgement follows depends on the reason.
			return errors.Join(batchError(err), c.settle())
		case err != nil && (seq == 0 || i < 0 || i > len(b.ops)):
			return fmt.Errorf("nf_tables batch: %w", err)
		case err != nil && first == nil:
			first = b.ops[i-1].refused(err)
		}
		if seq == last {
			return first
		}
	}
}

// settle reads what is queued, by waiting for the answer to one more request.
func (c *Conn) settle() error {
	g, _ := getGeneration().encode() // nothing that could fail
	sent, err := c.nl.Send([]netlink.Message{g})
	if err != nil {
		return err
	}
	for {
		if seq, err := c.receive(); seq == sent[0].Header.Sequence {
			return nil
		} else if seq == 0 {
			return err
		}
	}
}

// receive waits for one answer of the kernel and returns the sequence number
// of what it answers, or 0 if the error is the socket's own.
func (c *Conn) receive() (uint32, error) {
	msgs, err := c.nl.Receive()
	if err != nil {
		var op *netlink.OpError
		if errors.As(err, &op) {
			return op.Sequence, err
		}
		return 0, err
	}
	if len(msgs) == 0 {
		return 0, errors.New("empty answer from the kernel")
	}
	return msgs[len(msgs)-1].Header.Sequence, nil
}
