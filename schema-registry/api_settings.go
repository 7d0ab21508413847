package schemaregistry

import "strings"

// configAnswer is Config in the words of a request to change it.
type configAnswer struct {
	Config
	Level      Level `json:"compatibility,omitempty"`
	Suppressed Level `json:"compatibilityLevel,omitempty"` // hides that of Config
}

func (h *handler) config(c *call) (any, error) {
	return h.registry.Config(c.Context(), c.value(0), c.flag("defaultToGlobal"))
}

func (h *handler) setConfig(c *call) (any, error) {
	update, err := c.configUpdate()
	if err != nil {
		return nil, err
	}
	config, err := h.registry.SetConfig(c.Context(), c.value(0), update)
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "compatibility level set", "subject", c.value(0), "level", config.Level)
	return configAnswer{Config: config, Level: config.Level}, nil
}

func (h *handler) unsetConfig(c *call) (any, error) {
	config, err := h.registry.UnsetConfig(c.Context(), c.value(0))
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "compatibility level removed", "subject", c.value(0), "was", config.Level)
	return config, nil
}

// configUpdate reads a change of settings: one that is null is removed, one that is absent
// stays as it is.
func (c *call) configUpdate() (ConfigUpdate, error) {
	body, err := c.object()
	if err != nil {
		return nil, err
	}
	var level Level
	if body.has("compatibility") {
		name, err := body.text("compatibility")
		if err != nil {
			return nil, err
		}
		var ok bool
		if level, ok = ParseLevel(name); !ok {
			return nil, unprocessable(CodeInvalidLevel,
				"Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive")
		}
	}
	changes := []func(*Config){}
	set := func(name string, change func(*Config) error) {
		if _, given := body[name]; !given || err != nil {
			return
		}
		// Once to see that it can be read, and then at the turn of this request.
		if err = change(&Config{}); err == nil {
			changes = append(changes, func(config *Config) { _ = change(config) })
		}
	}
	set("compatibility", func(config *Config) error { config.Level = level; return nil })
	set("alias", func(config *Config) (err error) { config.Alias, err = body.optionalText("alias"); return err })
	set("normalize", func(config *Config) (err error) { config.Normalize, err = body.flag("normalize"); return err })
	set("validateFields", func(config *Config) (err error) {
		config.ValidateFields, err = body.flag("validateFields")
		return err
	})
	set("validateNames", func(config *Config) (err error) {
		config.ValidateNames, err = body.flag("validateNames")
		return err
	})
	set("validateRules", func(config *Config) (err error) {
		config.ValidateRules, err = body.flag("validateRules")
		return err
	})
	set("compatibilityPolicy", func(config *Config) (err error) {
		config.CompatibilityPolicy, err = body.policy()
		return err
	})
	set("compatibilityGroup", func(config *Config) (err error) {
		config.CompatibilityGroup, err = body.optionalText("compatibilityGroup")
		return err
	})
	set("defaultMetadata", func(config *Config) (err error) {
		config.DefaultMetadata, err = body.metadata("defaultMetadata")
		return err
	})
	set("overrideMetadata", func(config *Config) (err error) {
		config.OverrideMetadata, err = body.metadata("overrideMetadata")
		return err
	})
	if c.KeepRuleSets {
		set("defaultRuleSet", func(config *Config) (err error) {
			config.DefaultRuleSet, err = body.ruleSet("defaultRuleSet")
			return err
		})
		set("overrideRuleSet", func(config *Config) (err error) {
			config.OverrideRuleSet, err = body.ruleSet("overrideRuleSet")
			return err
		})
	}
	return func(config *Config) {
		for _, change := range changes {
			change(config)
		}
	}, err
}

// policy reads how strictly schemas of Protobuf and JSON are compared. What is no policy
// means none.
func (o object) policy() (*string, error) {
	name, err := o.text("compatibilityPolicy")
	if policy := strings.ToUpper(name); policy == "STRICT" || policy == "LENIENT" {
		return &policy, err
	}
	return nil, err
}

type modeAnswer struct {
	Mode Mode `json:"mode,omitempty"`
}

// modeEcho is the answer to a change: the mode as it was given, null where that unset it.
type modeEcho struct {
	Mode *Mode `json:"mode"`
}

func (h *handler) mode(c *call) (any, error) {
	mode, err := h.registry.Mode(c.Context(), c.value(0), c.flag("defaultToGlobal"))
	return modeAnswer{mode}, err
}

func (h *handler) setMode(c *call) (any, error) {
	body, err := c.object()
	if err != nil {
		return nil, err
	}
	name, err := body.text("mode")
	if err != nil {
		return nil, err
	}
	var mode Mode
	var echo modeEcho
	if raw, given := body["mode"]; !given || string(raw) != "null" { // null unsets it
		if err := checkSubject(c.value(0), true); err != nil {
			return nil, err
		}
		var ok bool
		if mode, ok = ParseMode(name); !ok {
			return nil, unprocessable(CodeInvalidMode, "Invalid mode. Valid values are READWRITE, READONLY, and IMPORT.")
		}
		given := Mode(name)
		echo.Mode = &given
	}
	if err := h.registry.SetMode(c.Context(), c.value(0), mode, c.flag("force")); err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "mode set", "subject", c.value(0), "mode", mode)
	return echo, nil
}

func (h *handler) unsetMode(c *call) (any, error) {
	mode, err := h.registry.UnsetMode(c.Context(), c.value(0), c.flag("recursive"))
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "mode removed", "subject", c.value(0), "mode", mode)
	return modeAnswer{mode}, nil
}
