module github.com/tallystick/tallystick/sdk/go

go 1.22
