module parts/power-cut

go 1.26.0

tool parts/power-cut

require golang.org/x/sys v0.49.0
