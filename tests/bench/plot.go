package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plot: panels beside and below each other, each with a logarithmic axis of
// milliseconds.
const (
	panelWidth, panelHeight = 420, 260
	left, right, top, below = 60, 20, 30, 40
)

var colours = []string{"#000000", "#17becf", "#d62728", "#ff7f0e", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"}

// A panel is one diagram; its x values are equally far apart.
type panel struct {
	title string
	names []string
	marks []string // of the x axis
	y     map[string][]float64
}

// plot draws the report as SVG.
func (r report) plot() string {
	var panels []panel
	for _, ports := range []bool{false, true} {
		suffix := map[bool]string{true: ", with a published port"}[ports]
		panels = append(panels, lines("ADD beside N containers"+suffix, r.Scale, ports), lines("N ADDs at once"+suffix, r.Parallel, ports))
	}
	panels = append(panels, r.phasePanel())
	colour := map[string]string{}
	var b strings.Builder
	rows := (len(panels) + 1) / 2
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", 2*panelWidth, rows*panelHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, p := range panels {
		for _, name := range p.names {
			if colour[name] == "" {
				colour[name] = colours[len(colour)%len(colours)]
			}
		}
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%2*panelWidth, i/2*panelHeight)
		p.draw(&b, colour)
		b.WriteString("</g>\n")
	}
	fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", panelWidth, (rows-1)*panelHeight)
	legend(&b, panels, colour)
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// lines is the panel of points.
func lines(title string, all []point, ports bool) panel {
	names, numbers := axes(all, ports)
	p := panel{title: title, names: names, y: map[string][]float64{}}
	for _, n := range numbers {
		p.marks = append(p.marks, fmt.Sprint(n))
		for _, name := range names {
			at, _ := find(all, name, n, ports)
			p.y[name] = append(p.y[name], median(at.Add))
		}
	}
	return p
}

// phasePanel shows the phases of one container after the other.
func (r report) phasePanel() panel {
	p := panel{title: "First, another, with a port, last", marks: phases, y: map[string][]float64{}}
	for _, row := range r.Rows {
		p.names = append(p.names, row.Name)
		for _, phase := range phases {
			p.y[row.Name] = append(p.y[row.Name], median(row.of(phase, ms)))
		}
	}
	return p
}

// bounds are the powers of ten around all values.
func (p panel) bounds() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, values := range p.y {
		for _, v := range values {
			if v > 0 {
				low, high = min(low, math.Floor(math.Log10(v))), max(high, math.Ceil(math.Log10(v)))
			}
		}
	}
	if low >= high {
		return 0, 1
	}
	return low, high
}

func (p panel) draw(b *strings.Builder, colour map[string]string) {
	low, high := p.bounds()
	x := func(i int) float64 {
		return left + float64(panelWidth-left-right)*(float64(i)+0.5)/float64(max(1, len(p.marks)))
	}
	y := func(v float64) float64 {
		return top + float64(panelHeight-top-below)*(high-math.Log10(v))/(high-low)
	}
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
	}
	text(panelWidth/2, 18, "middle", p.title)
	for e := low; e <= high; e++ {
		at := y(math.Pow(10, e))
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", left, at, panelWidth-right, at)
		text(left-5, at+4, "end", fmt.Sprintf("%g ms", math.Pow(10, e)))
	}
	for i, mark := range p.marks {
		// Long marks take turns on two lines.
		text(x(i), panelHeight-below+14+float64(i%2*12), "middle", mark)
	}
	for _, name := range p.names {
		var line []string
		for i, v := range p.y[name] {
			if v > 0 {
				line = append(line, fmt.Sprintf("%.1f,%.1f", x(i), y(v)))
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(i), y(v), colour[name])
			}
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(line, " "), colour[name])
	}
}

// legend names the colours in the last panel's place.
func legend(b *strings.Builder, panels []panel, colour map[string]string) {
	seen, n := map[string]bool{}, 0
	for _, p := range panels {
		for _, name := range p.names {
			if seen[name] {
				continue
			}
			seen[name] = true
			y := top + 20*n
			n++
			fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"/>`+"\n", left, y, left+30, y, colour[name])
			fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", left+40, y+4, html.EscapeString(name))
		}
	}
}
