package product

import "strings"

// Expand replaces $(NAME) by the value of a variable, as Kubernetes does in a container's args: what is not defined stays,
// and $$ stands for one $.
func Expand(text string, variables map[string]string) string {
	var out strings.Builder
	for text != "" {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			break
		}
		text = after
		switch {
		case strings.HasPrefix(text, "$"):
			out.WriteString("$")
			text = text[1:]
		case strings.HasPrefix(text, "("):
			name, rest, closed := strings.Cut(text[1:], ")")
			if !closed {
				out.WriteString("$")
				continue
			}
			value, defined := variables[name]
			if !defined {
				value = "$(" + name + ")"
			}
			out.WriteString(value)
			text = rest
		default:
			out.WriteString("$")
		}
	}
	return out.String()
}

// Remap replaces a mount path at the beginning of an argument, or of the value of a flag, by the path that is mounted.
func Remap(arg, mountPath, path string) string {
	flag, value := "", arg
	if before, after, found := strings.Cut(arg, "="); found && strings.HasPrefix(arg, "-") {
		flag, value = before+"=", after
	}
	mountPath = strings.TrimSuffix(mountPath, "/")
	rest, ok := strings.CutPrefix(value, mountPath)
	if !ok || (rest != "" && !strings.HasPrefix(rest, "/")) {
		return arg
	}
	return flag + strings.TrimSuffix(path, "/") + rest
}
