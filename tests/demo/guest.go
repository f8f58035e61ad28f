package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// guest plays a program of the demo's image, or of its machines: hello serves, and curl
// is a small one. It reports whether it was called as one of them.
func guest() bool {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name != "hello" && name != "curl" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	var err error
	switch name {
	case "hello":
		err = hello(strings.Join(args, " "))
	case "curl":
		err = curl(args)
	case "measure":
		err = measure(args)
	default:
		return false
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	return true
}

// hello serves by HTTP until it is told to end.
func hello(name string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	served := make(chan error)
	go func() {
		served <- http.ListenAndServe(":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "Hello from %s, you are %s\n", name, client)
		}))
	}()
	select {
	case <-ended:
		return nil
	case err := <-served:
		return err
	}
}

// curl prints what a URL has. It knows -s and -m.
func curl(args []string) error {
	client := http.Client{Timeout: 5 * time.Second}
	if len(args) == 1 { // the demo's own: "URL SECONDS"
		args = strings.Fields(args[0])
		if len(args) == 2 {
			args = []string{"-m", args[1], args[0]}
		}
	}
	if i := slices.Index(args, "-m"); i >= 0 && i+1 < len(args) {
		limit, err := time.ParseDuration(args[i+1] + "s")
		if err != nil {
			return err
		}
		client.Timeout = limit
	}
	reply, err := client.Get(args[len(args)-1])
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
			if u.Timeout() {
				err = fmt.Errorf("no answer within %v", client.Timeout)
			}
		}
		return err
	}
	defer reply.Body.Close()
	_, err = io.Copy(os.Stdout, reply.Body)
	return err
}

// image is a root file system that has this program, as hello and as curl, and nothing
// else.
func image(self string) (*bytes.Buffer, error) {
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Name: "bin/hello", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(program); err != nil {
		return nil, err
	}
	if err := tw.WriteHeader(&tar.Header{Name: "bin/curl", Typeflag: tar.TypeSymlink, Linkname: "hello"}); err != nil {
		return nil, err
	}
	return &b, tw.Close()
}
