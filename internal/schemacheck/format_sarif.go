package schemacheck

import "net/url"

// SARIF is the part of the Static Analysis Results Interchange Format 2.1.0 (OASIS) that a
// report needs. GitHub's code scanning reads it.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		// Columns are counted in characters, see section 3.14.17.
		ColumnKind string `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string       `json:"id"`
		ShortDescription sarifMessage `json:"shortDescription"`
	}
	sarifInvocation struct {
		ExecutionSuccessful        bool                `json:"executionSuccessful"`
		ToolExecutionNotifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string       `json:"level"`
		Message sarifMessage `json:"message"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Message             sarifMessage       `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
		Properties          map[string]any     `json:"properties,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
		EndLine     int `json:"endLine,omitempty"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
)

func (r *Report) sarif() sarifLog {
	run := sarifRun{
		Tool:    sarifTool{sarifDriver{Name: "postrider schema check", InformationURI: "https://github.com/postrider/postrider"}},
		Results: []sarifResult{}, ColumnKind: "unicodeCodePoints",
	}
	index := make(map[string]int)
	for i, rule := range Rules {
		index[rule.Name] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{rule.Name, sarifMessage{rule.Meaning}})
	}
	invocation := sarifInvocation{ExecutionSuccessful: true}
	for _, note := range r.Notes {
		invocation.ToolExecutionNotifications = append(invocation.ToolExecutionNotifications, sarifNotification{"note", sarifMessage{note}})
	}
	run.Invocations = []sarifInvocation{invocation}
	for _, p := range r.Problems {
		run.Results = append(run.Results, p.sarif(index[p.Rule]))
	}
	return sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}
}

func (p *Problem) sarif(rule int) sarifResult {
	place := sarifPhysical{ArtifactLocation: sarifArtifact{(&url.URL{Path: fromRepository(p.File)}).EscapedPath()}}
	if p.Line > 0 {
		place.Region = &sarifRegion{p.Line, p.Column, p.EndLine, p.EndColumn}
	}
	result := sarifResult{
		RuleID: p.Rule, RuleIndex: rule, Level: p.Severity, Message: sarifMessage{p.sentence()}, Locations: []sarifLocation{{place}},
		PartialFingerprints: map[string]string{"postriderSchemaCheck/v1": p.fingerprint()},
	}
	if p.Subject != "" {
		result.Properties = map[string]any{"subject": p.Subject}
	}
	if p.Direction != "" {
		result.Properties["path"], result.Properties["level"], result.Properties["versions"] = p.Path, p.Level, p.Versions
	}
	if p.Waived != nil {
		result.Suppressions = []sarifSuppression{{"external", p.Waived.Reason + ", until " + p.Waived.Expires}}
	}
	return result
}
