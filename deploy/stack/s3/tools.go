//go:build tools

// Pins versitygw, an S3 server over a folder, as a build dependency.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
