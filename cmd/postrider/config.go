package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/relay"
)

// askDoctor is what to do where a server does not answer.
const askDoctor = "are the servers up, and are their addresses right? postrider doctor checks them all"

// configFlags are the flags of the commands that need the relay's configuration.
type configFlags struct {
	file                string
	set                 []string
	logLevel, logFormat string
}

// add defines the flags; level is the default of --log-level.
func (c *configFlags) add(cmd *cobra.Command, level string) {
	c.addFile(cmd)
	addLogFlags(cmd, &c.logLevel, &c.logFormat, level)
}

// addFile defines the flags of a command that does not log.
func (c *configFlags) addFile(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&c.file, "config", "c", "", "configuration file (YAML)")
	f.StringArrayVar(&c.set, "set", nil, "set a configuration key, such as kafka.brokers=host:9092 (repeatable)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// load reads the configuration. All its problems are one usage error.
func (c *configFlags) load() (relay.Config, error) {
	cfg, err := relay.LoadConfig(c.file, os.Environ(), c.set)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		missing := errors.Is(err, fs.ErrNotExist) && !isFile(c.file)
		err = configProblems(err)
		switch {
		case c.file == "" && isFile(configName):
			err = fmt.Errorf("%w\nno file was named: -c %s", err, configName)
		case c.file == "":
			err = fmt.Errorf("%w\nno file was named: -c FILE; postrider init writes one", err)
		case missing:
			err = fmt.Errorf("%w; postrider init writes one", err)
		}
		for _, warning := range unknownVariables(os.Environ()) { // perhaps the cause
			err = fmt.Errorf("%w\n%s", err, warning)
		}
		return cfg, usageError(err)
	}
	return cfg, nil
}

// logger returns the logger that the flags ask for.
func (c *configFlags) logger() (*slog.Logger, error) { return newLogger(c.logLevel, c.logFormat) }
