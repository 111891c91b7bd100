//! A Vulkan driver whose device is not there: it compiles kernels and says what came of it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CStr, CString, c_char};

use ash::vk;

use crate::shaders::{Bound, Variant};
use crate::spirv;

/// An open driver.
pub struct Driver {
    /// The device and the driver with its version.
    pub name: String,
    instance: ash::Instance,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    /// Whether buffers are checked by the hardware, so that shaders need not.
    robust: bool,
    /// Whether subgroups may have any size, as wgpu lets them.
    varying: bool,
    // Unloads the library when all else is gone.
    _entry: ash::Entry,
}

/// What a compiler says of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The driver's figures by its names.
    pub statistics: BTreeMap<String, u64>,
    /// The machine code as text, where it was asked for.
    pub assembly: Option<String>,
}

fn text(raw: &[c_char]) -> String {
    let bytes: Vec<u8> = raw.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fail(what: &'static str) -> impl Fn(vk::Result) -> String {
    move |error| format!("{what}: {error}")
}

impl Driver {
    /// Opens the first device of the Vulkan drivers that the environment names, with what wgpu turns on.
    ///
    /// # Errors
    /// There is none, or it cannot tell what it compiled.
    pub fn open() -> Result<Self, String> {
        // SAFETY: the library is Vulkan's loader.
        let entry = unsafe { ash::Entry::load() }.map_err(|error| error.to_string())?;
        let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&app);
        // SAFETY: `info` and what it points to live until the call returns, as in all calls below.
        let instance = unsafe { entry.create_instance(&info, None) }.map_err(fail("vkCreateInstance"))?;
        // SAFETY: the instance lives as long as `Self`.
        let physicals = unsafe { instance.enumerate_physical_devices() }.map_err(fail("devices"))?;
        let &physical = physicals.first().ok_or("there is no device")?;
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: the chain is as the extension asks for.
        unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
        let device_name = text(&properties.properties.device_name);
        let name = format!("{device_name}, {} {}", text(&driver.driver_name), text(&driver.driver_info));
        // SAFETY: as above.
        let all = unsafe { instance.enumerate_device_extension_properties(physical) }.map_err(fail("extensions"))?;
        let all: HashSet<String> = all.iter().map(|extension| text(&extension.extension_name)).collect();
        let has = |name: &CStr| all.contains(&*name.to_string_lossy());
        if !has(ash::khr::pipeline_executable_properties::NAME) {
            return Err(format!("{name} has no VK_KHR_pipeline_executable_properties"));
        }
        let mut wanted = vec![ash::khr::pipeline_executable_properties::NAME.as_ptr()];
        let mut robustness2 = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let (mut v11, mut v12) =
            (vk::PhysicalDeviceVulkan11Features::default(), vk::PhysicalDeviceVulkan12Features::default());
        let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
        let mut query =
            vk::PhysicalDeviceFeatures2::default().push_next(&mut v11).push_next(&mut v12).push_next(&mut v13);
        if has(ash::ext::robustness2::NAME) {
            query = query.push_next(&mut robustness2);
        }
        // SAFETY: as above.
        unsafe { instance.get_physical_device_features2(physical, &mut query) };
        // As wgpu-hal 30 does (src/vulkan/adapter.rs): robust access, by robustness2 where that is there.
        let robust = robustness2.robust_buffer_access2 == vk::TRUE;
        let varying = v13.subgroup_size_control == vk::TRUE;
        let mut v11 = vk::PhysicalDeviceVulkan11Features::default()
            .storage_buffer16_bit_access(v11.storage_buffer16_bit_access == vk::TRUE)
            .uniform_and_storage_buffer16_bit_access(v11.uniform_and_storage_buffer16_bit_access == vk::TRUE);
        let mut v12 = vk::PhysicalDeviceVulkan12Features::default()
            .shader_float16(v12.shader_float16 == vk::TRUE)
            .vulkan_memory_model(v12.vulkan_memory_model == vk::TRUE);
        let mut v13 = vk::PhysicalDeviceVulkan13Features::default().subgroup_size_control(varying);
        let mut executable =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut robustness2 = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
        let mut features = vk::PhysicalDeviceFeatures2::default()
            .features(vk::PhysicalDeviceFeatures::default().robust_buffer_access(true))
            .push_next(&mut v11)
            .push_next(&mut v12)
            .push_next(&mut v13)
            .push_next(&mut executable);
        if robust {
            wanted.push(ash::ext::robustness2::NAME.as_ptr());
            features = features.push_next(&mut robustness2);
        }
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&wanted)
            .push_next(&mut features);
        // SAFETY: as above.
        let device = unsafe { instance.create_device(physical, &info, None) }.map_err(fail("vkCreateDevice"))?;
        let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Self { name, instance, device, executables, robust, varying, _entry: entry })
    }

    /// Compiles a kernel as wgpu would have it compiled.
    ///
    /// # Errors
    /// What naga or the driver says.
    pub fn compile(&self, variant: &Variant, assembly: bool) -> Result<Compiled, String> {
        let unit = spirv::trusted(variant, self.robust)?;
        let words: Vec<u32> =
            unit.source.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let mut made = Made { device: &self.device, layouts: vec![], layout: None, module: None, pipeline: None };
        let info = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: naga's module is valid SPIR-V: tests/translation.
        let module = unsafe { self.device.create_shader_module(&info, None) }.map_err(fail("module"))?;
        made.module = Some(module);
        let layout = self.layout(variant, &mut made)?;
        let entry = CString::new(variant.entry).map_err(|error| error.to_string())?;
        let flags = match self.varying {
            true => vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE,
            false => vk::PipelineShaderStageCreateFlags::empty(),
        };
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .flags(flags)
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(&entry);
        let mut capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
        if assembly {
            capture |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        }
        let info = [vk::ComputePipelineCreateInfo::default().flags(capture).layout(layout).stage(stage)];
        // SAFETY: module, layout and name live until the call returns.
        let pipelines = unsafe { self.device.create_compute_pipelines(vk::PipelineCache::null(), &info, None) };
        let pipeline = pipelines.map_err(|(_, error)| format!("{}: pipeline: {error}", variant.name))?[0];
        made.pipeline = Some(pipeline);
        self.report(pipeline, assembly)
    }

    fn layout(&self, variant: &Variant, made: &mut Made) -> Result<vk::PipelineLayout, String> {
        let mut groups: BTreeMap<u32, Vec<vk::DescriptorSetLayoutBinding>> = BTreeMap::new();
        for (place, bound) in variant.bound() {
            let kind = match bound {
                Bound::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                Bound::Storage { .. } => vk::DescriptorType::STORAGE_BUFFER,
            };
            let binding = vk::DescriptorSetLayoutBinding::default()
                .binding(place.binding)
                .descriptor_type(kind)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE);
            groups.entry(place.group).or_default().push(binding);
        }
        for group in 0..=groups.keys().max().copied().unwrap_or(0) {
            let bindings = groups.remove(&group).unwrap_or_default();
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            // SAFETY: as in `open`.
            let layout = unsafe { self.device.create_descriptor_set_layout(&info, None) };
            made.layouts.push(layout.map_err(fail("descriptor set layout"))?);
        }
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&made.layouts);
        // SAFETY: as in `open`.
        let layout = unsafe { self.device.create_pipeline_layout(&info, None) }.map_err(fail("pipeline layout"))?;
        made.layout = Some(layout);
        Ok(layout)
    }

    fn report(&self, pipeline: vk::Pipeline, assembly: bool) -> Result<Compiled, String> {
        let mut compiled = Compiled::default();
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: the pipeline is there and captures what is read.
        let parts = unsafe { self.executables.get_pipeline_executable_properties(&info) }.map_err(fail("parts"))?;
        for index in 0..parts.len() as u32 {
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(index);
            // SAFETY: as above.
            let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&info) };
            for statistic in statistics.map_err(fail("statistics"))? {
                use vk::PipelineExecutableStatisticFormatKHR as Format;
                // SAFETY: the format says which field of the union is there.
                let value = unsafe {
                    match statistic.format {
                        Format::BOOL32 => u64::from(statistic.value.b32),
                        Format::INT64 => statistic.value.i64.max(0) as u64,
                        Format::UINT64 => statistic.value.u64,
                        _ => statistic.value.f64.max(0.0) as u64,
                    }
                };
                compiled.statistics.insert(text(&statistic.name), value);
            }
            if assembly {
                compiled.assembly = self.representations(&info)?.pop();
            }
        }
        Ok(compiled)
    }

    /// The texts that the compiler went through; the last one is the assembly. ash asks for their sizes and not for them.
    fn representations(&self, info: &vk::PipelineExecutableInfoKHR) -> Result<Vec<String>, String> {
        let call = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let (handle, mut count) = (self.device.handle(), 0);
        // SAFETY: as Vulkan has it: without a place, then with places of no size, then of those sizes that it told.
        unsafe { call(handle, info, &mut count, std::ptr::null_mut()) }.result().map_err(fail("representations"))?;
        let mut found = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        // SAFETY: as above.
        unsafe { call(handle, info, &mut count, found.as_mut_ptr()) }.result().map_err(fail("representations"))?;
        let mut buffers: Vec<Vec<u8>> = found.iter().map(|found| vec![0; found.data_size]).collect();
        for (found, buffer) in found.iter_mut().zip(&mut buffers) {
            found.p_data = buffer.as_mut_ptr().cast();
        }
        // SAFETY: as above.
        unsafe { call(handle, info, &mut count, found.as_mut_ptr()) }.result().map_err(fail("representations"))?;
        let text = |buffer: Vec<u8>| String::from_utf8_lossy(&buffer).trim_end_matches('\0').to_string();
        Ok(buffers.into_iter().map(text).collect())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: what was made of them is gone.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// What is made for one pipeline, and destroyed with it.
struct Made<'a> {
    device: &'a ash::Device,
    layouts: Vec<vk::DescriptorSetLayout>,
    layout: Option<vk::PipelineLayout>,
    module: Option<vk::ShaderModule>,
    pipeline: Option<vk::Pipeline>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // SAFETY: nothing else has them, and nothing was submitted.
        unsafe {
            self.pipeline.into_iter().for_each(|pipeline| self.device.destroy_pipeline(pipeline, None));
            self.layout.into_iter().for_each(|layout| self.device.destroy_pipeline_layout(layout, None));
            self.layouts.drain(..).for_each(|layout| self.device.destroy_descriptor_set_layout(layout, None));
            self.module.into_iter().for_each(|module| self.device.destroy_shader_module(module, None));
        }
    }
}
