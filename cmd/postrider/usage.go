package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/internal/nearest"
)

// helpColumns is how wide a line of --help may be.
const helpColumns = 80

// addUsage makes wrong usage of any command below root exit with 2 and name what may be meant,
// and breaks the lines of flags.
func addUsage(root *cobra.Command) {
	root.Args = usageNoArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(strings.NewReplacer(
		"Flags.FlagUsages", fmt.Sprintf("Flags.FlagUsagesWrapped %d", helpColumns),
		`Use "{{.CommandPath}} [command] --help" for more information about a command.`, `More about one: {{.CommandPath}} [command] --help`,
	).Replace(root.UsageTemplate()))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help": // it would say so and exit with 0
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err == nil && (len(rest) == 0 || len(args) == 0) {
					return nil
				}
				return unknownCommand(found, rest)
			}
		case "completion":
			cmd.RunE = func(*cobra.Command, []string) error {
				return usageError(errors.New("completion: say bash, zsh, fish or powershell (postrider completion --help)"))
			}
			cmd.Args = usageNoArgs
			for _, shell := range cmd.Commands() {
				shell.Args = usageNoArgs
			}
		}
	}
}

// usageNoArgs demands that there are no arguments.
func usageNoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownCommand(cmd, args)
}

// unknownCommand is the error for the first of args, which is no command below cmd.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if !cmd.HasAvailableSubCommands() {
		return of(cmd, "takes no argument such as %q (%s --help)", args[0], cmd.CommandPath())
	}
	var known []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			known = append(known, sub.Name())
		}
	}
	hint := cmd.CommandPath() + " --help lists the commands"
	if near := nearest.Of(args[0], known); near != "" {
		hint = fmt.Sprintf("is %s %s meant?", cmd.CommandPath(), near)
	}
	return usageError(fmt.Errorf("there is no command %s %s; %s", cmd.CommandPath(), args[0], hint))
}

// of begins an error with the command that it is about.
func of(cmd *cobra.Command, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if path, ok := strings.CutPrefix(cmd.CommandPath(), cmd.Root().Name()+" "); ok {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return usageError(err)
}

// flagError says what is wrong with a flag in the words of people, not of Go.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &invalid):
		flag := invalid.GetFlag()
		if want := flagValues[flag.Value.Type()]; want != "" {
			return of(cmd, "--%s %q: want %s", flag.Name, invalid.GetValue(), want)
		}
	case errors.As(err, &unknown):
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		if near := nearest.Of("--"+unknown.GetSpecifiedName(), known); near != "" {
			return of(cmd, "%w; is %s meant?", err, near)
		}
	}
	return of(cmd, "%w (%s --help)", err, cmd.CommandPath())
}

// flagValues says what flags take, by the type that pflag has for them.
var flagValues = map[string]string{
	"bool": "true or false", "int": "a whole number", "int64": "a whole number",
	"intSlice": "whole numbers such as 1,100", "float64": "a number", "duration": "a duration such as 30s or 10m",
}
