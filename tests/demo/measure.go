package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rounds is how often each plugin attaches and detaches a container, in turns.
const rounds = 10

// A rival is what is called for one ADD and, in the opposite order, for one DEL.
type rival struct {
	Name  string
	Calls []call
}

// A call is a program's, as a container runtime makes it. The first of several returns a
// result, which the next ones get as prevResult.
type call struct {
	Program, Conf string
	ADD, DEL      []string // arguments
	CNI           bool
}

// speed shows how long one ADD takes.
func (d *demo) speed() {
	d.title("The time of one ADD with a published port")
	reference, ok := d.reference()
	if !ok {
		d.say("Neither the reference plugins nor netavark are here to compare with.")
		return
	}
	d.w.NetNS("timed")
	flatnet := rival{"flatnet", []call{{Program: "/usr/local/bin/flatnet", CNI: true, Conf: `{"cniVersion":"1.0.0","name":"timed","type":"flatnet","bridge":"timed0",
		"ipam":{"subnet":"10.88.0.0/24"},"runtimeConfig":{"portMappings":[{"hostPort":8081,"containerPort":80,"protocol":"tcp"}]}}`}}}
	text, _ := json.Marshal([]rival{flatnet, reference}) // of plain values
	self, err := os.Executable()
	if err != nil {
		d.fail("%v", err)
	}
	// In another network namespace: portmap leaves its chains behind.
	out, err := d.w.Try("unshare", "--net", self, "measure", string(text))
	var took []float64
	if err == nil {
		err = json.Unmarshal([]byte(out), &took)
	}
	if err != nil {
		d.fail("measure: %v", err)
	}
	d.output(fmt.Sprintf("%-36s %7.1f ms", flatnet.Name, took[0]))
	d.output(fmt.Sprintf("%-36s %7.1f ms   %.1f times as long", reference.Name, took[1], took[1]/took[0]))
	d.say(fmt.Sprintf("measured now: the medians of %d each, in turns. make bench has more.", rounds))
}

// reference is the plugins that CNI's authors maintain, or netavark's own driver.
func (d *demo) reference() (rival, bool) {
	const ports = `"runtimeConfig":{"portMappings":[{"hostPort":8082,"containerPort":80,"protocol":"tcp"}]}`
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := d.w.Try("test", "-x", dir+"/bridge", "-a", "-x", dir+"/portmap", "-a", "-x", dir+"/host-local"); err != nil {
			continue
		}
		bridge := `{"cniVersion":"1.0.0","name":"ref","type":"bridge","bridge":"ref0","isGateway":true,"isDefaultGateway":true,"ipMasq":true,
			"ipam":{"type":"host-local","subnet":"10.89.0.0/24","dataDir":"/run/ref"}}`
		portmap := `{"cniVersion":"1.0.0","name":"ref","type":"portmap","snat":true,` + ports + `}`
		return rival{"bridge, host-local and portmap", []call{
			{Program: dir + "/bridge", Conf: bridge, CNI: true}, {Program: dir + "/portmap", Conf: portmap, CNI: true},
		}}, true
	}
	for _, program := range []string{"/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"} {
		if _, err := d.w.Try("test", "-x", program); err != nil {
			continue
		}
		args := func(verb string) []string { return []string{"--config", "/run/ref", verb, "/run/netns/timed"} }
		return rival{"netavark's own bridge driver", []call{{Program: program, ADD: args("setup"), DEL: args("teardown"),
			Conf: `{"container_id":"timed","container_name":"timed","port_mappings":[{"container_port":80,"host_ip":"","host_port":8082,"protocol":"tcp","range":1}],
			"networks":{"own":{"static_ips":["10.90.0.2"],"interface_name":"eth0"}},"network_info":{"own":{"name":"own","id":"` + strings.Repeat("cd", 32) + `",
			"driver":"bridge","network_interface":"nv0","subnets":[{"subnet":"10.90.0.0/24","gateway":"10.90.0.1"}],"ipv6_enabled":false,"internal":false,
			"dns_enabled":false,"ipam_options":{"driver":"host-local"}}}}`}}}, true
	}
	return rival{}, false
}

// measure prints the median of each rival in milliseconds. It runs in the world, so that
// nothing but the programs is timed.
func measure(args []string) error {
	var rivals []rival
	if err := json.Unmarshal([]byte(args[0]), &rivals); err != nil {
		return err
	}
	took := make([][]float64, len(rivals))
	for round := range rounds + 1 {
		for i, r := range rivals {
			began := time.Now()
			if err := r.run("ADD"); err != nil {
				return err
			}
			if round > 0 { // the first makes bridges and tables
				took[i] = append(took[i], float64(time.Since(began).Microseconds())/1000)
			}
			if err := r.run("DEL"); err != nil {
				return err
			}
		}
	}
	var medians []float64
	for _, all := range took {
		slices.Sort(all)
		medians = append(medians, all[len(all)/2])
	}
	return json.NewEncoder(os.Stdout).Encode(medians)
}

func (r rival) run(verb string) error {
	calls := slices.Clone(r.Calls)
	if verb == "DEL" {
		slices.Reverse(calls)
	}
	result := ""
	for _, c := range calls {
		cmd := exec.Command(c.Program, map[string][]string{"ADD": c.ADD, "DEL": c.DEL}[verb]...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		conf := c.Conf
		if c.CNI {
			cmd.Env = append(cmd.Env, "CNI_COMMAND="+verb, "CNI_CONTAINERID=timed", "CNI_NETNS=/run/netns/timed", "CNI_IFNAME=eth0",
				"CNI_PATH="+filepath.Dir(c.Program))
			if result != "" {
				conf = strings.TrimSuffix(conf, "}") + `,"prevResult":` + result + "}"
			}
		}
		cmd.Stdin = strings.NewReader(conf)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s of %s: %w: %s%s", verb, c.Program, err, out, stderr.String())
		}
		if verb == "ADD" {
			result = string(out)
		}
	}
	return nil
}
