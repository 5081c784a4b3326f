package convert

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Input is one text to convert.
type Input struct {
	// Name of the text in errors, such as a file name.
	Name string
	// YAML documents, each an object or a list of objects.
	YAML []byte
}

// object is the part that all objects have, and the rest unread.
type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`

	Spec   json.RawMessage   `json:"spec"`
	Status json.RawMessage   `json:"status"`
	Data   json.RawMessage   `json:"data"`
	Items  []json.RawMessage `json:"items"`
}

type metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
}

// group of the object's API; "" for the core one.
func (o object) group() string {
	group, _, versioned := strings.Cut(o.APIVersion, "/")
	if !versioned {
		return ""
	}
	return group
}

// String is kind/namespace/name, or kind/name.
func (o object) String() string {
	if o.Metadata.Namespace == "" {
		return o.Kind + "/" + o.Metadata.Name
	}
	return o.Kind + "/" + o.Metadata.Namespace + "/" + o.Metadata.Name
}

// read lists the objects of an input, those of lists one by one. Its error names the document.
func read(input Input) ([]object, error) {
	var objects []object
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(input.YAML)))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err == nil {
			document, err = yaml.YAMLToJSON(document)
		}
		var found []object
		if err == nil {
			found, err = flatten(document, object{})
		}
		if err != nil {
			return nil, fmt.Errorf("read %s, document %d: %w", input.Name, number, err)
		}
		objects = append(objects, found...)
	}
}

// flatten reads an object or the items of a list. Items without a kind have that of the list: an API server's answer leaves it
// out.
func flatten(text json.RawMessage, list object) ([]object, error) {
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return nil, nil
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("it is not a Kubernetes object: %w", err)
	}
	if o.Kind == "" && o.APIVersion == "" {
		o.Kind, o.APIVersion = strings.TrimSuffix(list.Kind, "List"), list.APIVersion
	}
	if o.Kind == "" {
		return nil, errors.New("it is not a Kubernetes object: it has no kind")
	}
	if !strings.HasSuffix(o.Kind, "List") {
		return []object{o}, nil
	}
	var objects []object
	for i, item := range o.Items {
		found, err := flatten(item, o)
		if err != nil {
			return nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		objects = append(objects, found...)
	}
	return objects, nil
}
