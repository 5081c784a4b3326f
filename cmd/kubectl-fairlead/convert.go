package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/pkg/convert"
)

const convertLong = `Reads resources of other load balancers and writes Fairlead's, for kubectl apply.

It reads the files named, or standard input if there are none or for "-": YAML or JSON documents, each an object
or a list, as kubectl get -o yaml writes them. It asks no cluster and changes nothing. It knows

  MetalLB                  IPAddressPool, L2Advertisement, AddressPool, the ConfigMap of before v0.13
  kube-vip cloud provider  the ConfigMap kubevip
  PureLB                   ServiceGroup, LBNodeAgent
  inwinSTACK ipam          Pool, IP
  kube-keepalived-vip      the ConfigMap of addresses and Services

Pools become IPPools, claims become VIPs, and addresses with Services the ConfigMap fairlead-system/fairlead-vips.
Convert everything of one load balancer together: an L2Advertisement says more about pools.

What has no equivalent, or needs you, is said on standard error, a line each: object, field, value, what to do.
It ends with 1, and writes nothing, if an input cannot be read or nothing in it can be converted.`

const convertExample = `  # What would change, and what needs you
  kubectl get ipaddresspools.metallb.io,l2advertisements.metallb.io -A -o yaml | kubectl fairlead convert

  # The same, into the cluster
  kubectl get ipaddresspools.metallb.io,l2advertisements.metallb.io -A -o yaml | kubectl fairlead convert | kubectl apply -f -

  # From files
  kubectl fairlead convert pools.yaml advertisements.yaml > fairlead.yaml`

func convertCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "convert [FILE|-]...",
		Short:   "Turns resources of MetalLB, kube-vip, PureLB, inwinSTACK or kube-keepalived-vip into Fairlead's",
		Long:    convertLong,
		Example: convertExample,
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := runConvert(cmd, files); err != nil {
				return &ended{statusBad, err}
			}
			return nil
		},

		DisableFlagsInUseLine: true,
	}
}

func runConvert(cmd *cobra.Command, files []string) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	var inputs []convert.Input
	for _, file := range files {
		input, err := readInput(cmd.InOrStdin(), file)
		if err != nil {
			return err
		}
		inputs = append(inputs, input)
	}
	result, err := convert.Convert(inputs...)
	if err != nil {
		return err
	}
	for _, note := range result.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), note)
	}
	if result.Empty() {
		return fmt.Errorf("nothing to convert in %s: kubectl fairlead convert --help lists what is known", strings.Join(names(inputs), ", "))
	}
	text, err := result.YAML()
	if err != nil {
		return err
	}
	if _, err := cmd.OutOrStdout().Write(text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

const stdin = "standard input"

func readInput(in io.Reader, file string) (convert.Input, error) {
	if file != "-" {
		text, err := os.ReadFile(file) // the error names the file
		return convert.Input{Name: file, YAML: text}, err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return convert.Input{}, fmt.Errorf("read %s: %w", stdin, err)
	}
	if len(text) == 0 {
		return convert.Input{}, errors.New("standard input is empty: pipe kubectl get -o yaml into it, or name files")
	}
	return convert.Input{Name: stdin, YAML: text}, nil
}

func names(inputs []convert.Input) []string {
	out := make([]string, len(inputs))
	for i, input := range inputs {
		out[i] = input.Name
	}
	return out
}
